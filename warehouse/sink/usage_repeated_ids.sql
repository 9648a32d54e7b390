-- Access: internal
-- Those of these halves of identities of usage rows that are registered more than once: copies, or the same row that
-- was registered again and is not merged yet.
SELECT id_hi
FROM usage_ids
WHERE id_hi IN {his:Array(UInt64)}
GROUP BY id_hi
HAVING count() > 1
