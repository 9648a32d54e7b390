-- Access: shared
-- Columns of all tables and views.
SELECT table, name AS column, type
FROM system.columns
WHERE database = currentDatabase()
ORDER BY table, position
