-- Access: internal
-- The tables, and whether what is inserted into them is synced before the server answers.
SELECT name, engine_full LIKE '%fsync_after_insert = 1%' AS synced
FROM system.tables
WHERE database = currentDatabase() AND engine LIKE '%MergeTree'
ORDER BY name
