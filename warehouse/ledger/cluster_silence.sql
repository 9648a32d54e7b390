-- Access: operator
-- Clusters with energy in the hours since `known_ms`, the silent ones first: those without a window since `recent_ms`.
SELECT cluster, cluster NOT IN (
    SELECT DISTINCT cluster FROM ledger FINAL
    WHERE window_start >= fromUnixTimestamp64Milli({recent_ms:Int64}, 'UTC')
) AS silent
FROM
(
    SELECT DISTINCT cluster FROM ledger_hour FINAL
    WHERE hour >= fromUnixTimestamp64Milli({known_ms:Int64}, 'UTC')
      AND cluster NOT IN (SELECT cluster FROM clusters FINAL WHERE simulated = 1)
      AND cluster NOT IN (SELECT alias FROM cluster_aliases FINAL)
)
ORDER BY silent DESC, cluster
LIMIT {limit:UInt32}
