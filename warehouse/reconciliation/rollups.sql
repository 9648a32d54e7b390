-- Access: operator
-- The same sums of hours or days, at the last hour of each. Whole days only, so that both tables have all of each.
SELECT
    intDiv(toUnixTimestamp64Milli(r.$time), {step_ms:Int64}) * intDiv({step_ms:Int64}, 3600000)
        + intDiv({step_ms:Int64}, 3600000) - 1 AS hour_no,
    toString(r.cluster) AS of_cluster, toString(r.workload) AS of_workload, '' AS of_tenant,
    sum(r.prompt_tokens) AS prompt_tokens, sum(r.completion_tokens) AS completion_tokens, sum(r.requests) AS requests,
    sum(toInt128(r.active_uj + r.idle_uj + r.unallocated_uj)) AS energy_uj
FROM $table AS r FINAL
WHERE r.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND r.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY hour_no, of_cluster, of_workload
ORDER BY hour_no, of_cluster, of_workload
LIMIT {limit:UInt32}
