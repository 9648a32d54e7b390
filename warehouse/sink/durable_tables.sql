-- Access: internal
-- Tables, and whether their inserts are synced to disk before the server acknowledges them.
SELECT name, engine_full LIKE '%fsync_after_insert = 1%' AS synced
FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree'
ORDER BY name
