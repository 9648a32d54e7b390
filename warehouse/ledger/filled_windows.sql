-- Access: internal
-- Windows of some logs in a span, by cluster.
SELECT DISTINCT cluster, toUnixTimestamp64Milli(window_start) AS start_ms, window_ms, log_id
FROM ledger FINAL
WHERE window_start > fromUnixTimestamp64Milli({start_ms:Int64} - 3600000, 'UTC')
  AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND log_id IN {log_ids:Array(String)}
ORDER BY start_ms, cluster
