-- Access: tenant
-- Windows inside which some price changes, by cluster and the span in which they begin: their first start and last end.
WITH
    $spans,
    $cuts
SELECT
    cluster, span, min(starts_ms) AS from_ms, max(ends_ms) AS until_ms
FROM
(
    SELECT
        toString($cluster{t.cluster}) AS cluster, toUnixTimestamp64Milli(t.window_start) AS starts_ms, starts_ms + t.window_ms AS ends_ms,
        roundDown(starts_ms, spans) AS span
    FROM ledger AS t FINAL
    WHERE t.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND t.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND $only
      AND (empty({tenants:Array(String)}) OR t.tenant IN {tenants:Array(String)})
      AND $cluster_in{t.cluster}
      AND $within{t.hardware}
      AND roundDown(ends_ms - 1, spans) != span
)
GROUP BY cluster, span
ORDER BY cluster, span
LIMIT {limit:UInt32}
