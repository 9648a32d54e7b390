-- Access: internal
-- Energy and tokens of each workload since a time, provisional windows too, and how many of its rows are final.
SELECT
    cluster, workload, sum(toInt128(active_uj + idle_uj + unallocated_uj)) AS energy_uj,
    sum(prompt_tokens + completion_tokens) AS tokens, countIf(final = 1) AS final_rows
FROM ledger FINAL
WHERE window_start >= fromUnixTimestamp64Milli({since_ms:Int64}, 'UTC') AND deleted = 0
GROUP BY cluster, workload
ORDER BY energy_uj DESC, cluster, workload
LIMIT 1000
