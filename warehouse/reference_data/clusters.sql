-- Access: shared
-- All clusters that have a row, by name.
SELECT
    cluster, simulated > 0 AS simulated, note
FROM clusters FINAL
ORDER BY cluster
