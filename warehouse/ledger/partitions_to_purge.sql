-- Access: internal
-- Partitions of a table with rows of some clusters, and how many rows of other clusters they hold.
SELECT _partition_id AS id, countIf(cluster NOT IN {clusters:Array(String)}) AS others, count() - others AS ours
FROM $table
GROUP BY id
HAVING ours > 0
