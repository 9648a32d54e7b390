-- Access: operator
-- Tokens, requests and energy by hour and workload, as the ledger's hours have them; by tenant too where asked for.
-- A wall is measured less its GPUs, or whole.
SELECT
    intDiv(toUnixTimestamp64Milli(h.hour), 3600000) AS hour_no,
    toString(h.cluster) AS of_cluster, toString(h.workload) AS of_workload,
    if({by_tenant:UInt8} = 1, toString(h.tenant), '') AS of_tenant,
    sum(h.prompt_tokens) AS prompt_tokens, sum(h.cached_tokens) AS cached_tokens,
    sum(h.completion_tokens) AS completion_tokens, sum(h.requests) AS requests,
    sumIf(toInt128(h.active_uj + h.idle_uj + h.unallocated_uj), $part{h.hardware} = 'gpu') AS gpu_uj,
    sumIf(toInt128(h.active_uj + h.idle_uj + h.unallocated_uj), $part{h.hardware} = 'wall' AND NOT $contains_gpus{h.hardware}) AS wall_less_uj,
    sumIf(toInt128(h.active_uj + h.idle_uj + h.unallocated_uj), $contains_gpus{h.hardware}) AS wall_uj,
    sumIf(toInt128(h.active_uj + h.idle_uj + h.unallocated_uj), $part{h.hardware} = 'host') AS host_uj
FROM ledger_hour AS h FINAL
WHERE h.hour >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND h.hour < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY hour_no, of_cluster, of_workload, of_tenant
ORDER BY hour_no, of_cluster, of_workload, of_tenant
LIMIT {limit:UInt32}
