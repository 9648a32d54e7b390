-- Access: operator
-- The same sums of final windows, which hours are computed from.
SELECT
    intDiv(toUnixTimestamp64Milli(l.window_start), 3600000) AS hour_no,
    toString(l.cluster) AS of_cluster, toString(l.workload) AS of_workload, '' AS of_tenant,
    sum(l.prompt_tokens) AS prompt_tokens, sum(l.completion_tokens) AS completion_tokens, sum(l.requests) AS requests,
    sum(toInt128(l.active_uj + l.idle_uj + l.unallocated_uj)) AS energy_uj
FROM ledger AS l FINAL
WHERE l.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND l.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND l.final = 1
GROUP BY hour_no, of_cluster, of_workload
ORDER BY hour_no, of_cluster, of_workload
LIMIT {limit:UInt32}
