-- Access: operator
-- Workloads with requests and without any measured energy, and workloads with energy of GPUs and without any request.
SELECT
    toString(t.cluster) AS of_cluster, toString(t.workload) AS of_workload,
    sum(t.prompt_tokens + t.completion_tokens) AS tokens, sum(t.requests) AS requests,
    max(t.method != 3) AS metered,
    sumIf(toInt128(t.active_uj) + t.idle_uj, $part{t.hardware} = 'gpu') AS gpu_uj,
    arraySort(groupUniqArrayIf(16)(toString(t.model), t.model != '')) AS models
FROM $table AS t FINAL
WHERE t.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND t.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND $only
  AND NOT startsWith(t.workload, '~') AND NOT startsWith(t.workload, {external:String})
GROUP BY of_cluster, of_workload
HAVING (requests > 0 AND metered = 0) OR (requests = 0 AND gpu_uj > 0)
ORDER BY requests > 0 DESC, tokens DESC, of_cluster, of_workload
LIMIT {limit:UInt32}
