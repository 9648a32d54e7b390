-- Access: operator
-- Tokens and requests of calls whose sender named no tenant, by workload.
SELECT
    toString(h.cluster) AS of_cluster, toString(h.workload) AS of_workload,
    sum(h.prompt_tokens + h.completion_tokens) AS tokens, sum(h.requests) AS requests
FROM ledger_hour AS h FINAL
WHERE h.hour >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND h.tenant = {unnamed:String}
GROUP BY of_cluster, of_workload
HAVING requests > 0
ORDER BY tokens DESC, of_cluster, of_workload
LIMIT {limit:UInt32}
