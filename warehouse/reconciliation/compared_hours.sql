-- Access: operator
-- Stored comparisons of a period.
SELECT
    toUnixTimestamp64Milli(r.hour) AS hour, r.cluster AS cluster, r.workload AS workload, r.tenant AS tenant,
    r.quantity AS quantity, r.first_source AS first_source, r.second_source AS second_source,
    r.first_amount AS first_amount, r.second_amount AS second_amount
FROM reconciliation AS r FINAL
WHERE r.hour >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND r.hour < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND $cluster_in{r.cluster}
  AND ({workload:String} = '' OR r.workload = {workload:String})
  AND (toUnixTimestamp64Milli(r.hour), r.cluster, r.workload, r.tenant, r.quantity, r.first_source, r.second_source)
    > ({after_ms:Int64}, {after_cluster:String}, {after_workload:String}, {after_tenant:String}, {after_quantity:String}, {after_first:String}, {after_second:String})
ORDER BY hour, cluster, workload, tenant, quantity, first_source, second_source
LIMIT {limit:UInt32}
