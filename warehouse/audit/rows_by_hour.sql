-- Access: operator
-- Rows to audit in each hour, so that the audit can work in bounded steps.
SELECT intDiv(toUnixTimestamp64Milli(window_start), 3600000) * 3600000 AS hour_ms, count() AS rows
FROM
(
    SELECT window_start FROM gpu_energy
    UNION ALL
    SELECT window_start FROM ledger
    UNION ALL
    SELECT window_start FROM token_usage
    UNION ALL
    SELECT window_start FROM request_energy
    UNION ALL
    SELECT hour AS window_start FROM ledger_hour
    UNION ALL
    SELECT day AS window_start FROM ledger_day
)
WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY hour_ms
ORDER BY hour_ms
