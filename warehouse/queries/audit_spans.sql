-- How many rows there are to audit on each day, so that the audit can go through them in bounded steps.
SELECT toUnixTimestamp64Milli(toDateTime64(toDate(window_start), 3, 'UTC')) AS day_ms, count() AS rows
FROM
(
    SELECT window_start FROM gpu_energy
    UNION ALL
    SELECT window_start FROM ledger
    UNION ALL
    SELECT window_start FROM token_usage
)
WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY day_ms
ORDER BY day_ms
