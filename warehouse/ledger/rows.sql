-- Access: tenant
-- Rows of the ledger, oldest first: the windows behind a bill. Provisional rows, if requested, count only from the
-- final end of their log partition on, where they cannot hide final ones.
SELECT
    toUnixTimestamp64Milli(l.window_start) AS window_start, l.window_ms AS window_ms, l.tenant AS tenant,
    l.cluster AS cluster, l.workload AS workload, l.model AS model, l.hardware AS hardware,
    $dimensions{l.@ AS @}, arrayStringConcat([$dimensions{toString(l.@)}], '\x1f') AS dimensions_key,
    l.active_uj AS active_uj, l.idle_uj AS idle_uj, l.unallocated_uj AS unallocated_uj,
    $tokens{l.@ AS @},
    l.work AS work, l.requests AS requests, l.failures AS failures, l.method AS method,
    l.weights_version AS weights_version, l.floor_version AS floor_version, l.revision AS revision, l.final AS final,
    ifNull(c.simulated, 0) AS simulated
FROM ledger AS l FINAL
LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
    ON m.log_id = l.log_id AND m.log_partition = l.log_partition
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = l.cluster
WHERE l.window_start >= fromUnixTimestamp64Milli(greatest({start_ms:Int64}, {after_ms:Int64}), 'UTC')
  AND l.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND (l.final = 1 OR ({provisional:UInt8} = 1 AND (m.log_id = '' OR l.window_start >= m.final_end)))
  AND (empty({tenants:Array(String)}) OR l.tenant IN {tenants:Array(String)})
  AND $cluster_in{l.cluster}
  AND ({workload:String} = '' OR l.workload = {workload:String})
  AND ({model:String} = '' OR l.model = {model:String})
  AND $within{l.hardware}
  AND (toUnixTimestamp64Milli(l.window_start), l.tenant, l.cluster, l.workload, l.model, l.hardware, dimensions_key)
    > ({after_ms:Int64}, {after_tenant:String}, {after_cluster:String}, {after_workload:String}, {after_model:String}, {after_hardware:String}, {after_dimensions:String})
ORDER BY window_start, tenant, cluster, workload, model, hardware, dimensions_key
LIMIT {limit:UInt32}
