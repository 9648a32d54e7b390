-- Access: internal
-- The greatest epoch in any claim or checkpoint of any log: a new log that replaces an older one's rows must be above
-- it too.
SELECT greatest((SELECT max(epoch) FROM claims), (SELECT max(epoch) FROM marks)) AS epoch
