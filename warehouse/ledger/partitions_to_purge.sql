-- Access: internal
-- Which partitions of a table hold rows of some clusters, and whether they hold others' too.
SELECT _partition_id AS id, countIf(cluster NOT IN {clusters:Array(String)}) AS others, count() - others AS ours
FROM $table
GROUP BY id
HAVING ours > 0
