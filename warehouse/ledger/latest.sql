-- Access: tenant
-- The newest windows by tenant, including provisional ones. A provisional row counts only from the final end of its log
-- partition on, where it cannot hide a final row.
SELECT
    toUnixTimestamp64Milli(l.window_start) AS window_start, max(l.window_ms) AS window_ms, l.tenant AS tenant,
    min(l.final) AS final,
    sum(toInt128(l.active_uj)) AS active_uj, sum(toInt128(l.idle_uj)) AS idle_uj,
    sum(toInt128(l.unallocated_uj)) AS unallocated_uj,
    sum(l.prompt_tokens + l.completion_tokens) AS tokens,
    sumIf(l.prompt_tokens + l.completion_tokens, l.method = 3) AS unmetered_tokens, sum(l.requests) AS requests,
    max(ifNull(c.simulated, 0)) AS simulated
FROM ledger AS l FINAL
LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
    ON m.log_id = l.log_id AND m.log_partition = l.log_partition
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = l.cluster
WHERE l.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND l.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND (l.final = 1 OR m.log_id = '' OR l.window_start >= m.final_end)
  AND (empty({tenants:Array(String)}) OR l.tenant IN {tenants:Array(String)})
GROUP BY window_start, tenant
HAVING {first:UInt8} = 1 OR (-window_start, tenant) > (-{after_ms:Int64}, {after_tenant:String})
ORDER BY window_start DESC, tenant
LIMIT {limit:UInt32}
