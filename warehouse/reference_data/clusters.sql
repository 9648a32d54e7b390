-- Access: shared
-- All clusters that a note or a SIMULATED mark is stored for, by name.
SELECT
    cluster, simulated > 0 AS simulated, note
FROM clusters FINAL
ORDER BY cluster
