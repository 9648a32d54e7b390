-- Access: internal
-- One row if a cluster has final rows outside of a span.
SELECT cluster
FROM ledger FINAL
WHERE cluster = {cluster:String} AND final = 1
  AND (window_start < fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') OR window_start >= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
LIMIT 1
