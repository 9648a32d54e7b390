-- Access: tenant
-- Requests that ended in a period, oldest first, with their energy in all windows that they ran in, as in the view
-- `requests`. A request lasts at most 6 h (MAX_SPAN_MS) and a window an hour, so its windows start less than 7 h before
-- its end.
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    r.tenant AS tenant, r.cluster AS cluster, r.workload AS workload, r.model AS model, r.request_id AS request_id,
    r.session_id AS session_id, r.trace_id AS trace_id, $dimensions{r.@ AS @}, r.status AS status,
    toUnixTimestamp64Milli(r.t_start) AS t_start, toUnixTimestamp64Milli(r.t_end) AS t_end,
    $tokens{sum(r.@) AS @},
    sum(r.active_uj) AS active_uj, sum(r.idle_uj) AS idle_uj, uniqExact(r.window_start) AS windows,
    groupUniqArrayIf(toUnixTimestamp64Milli(r.window_start), r.active_uj + r.idle_uj = 0) AS windows_without_energy,
    max(has(simulated_clusters, toString(r.cluster))) AS simulated
FROM request_energy AS r FINAL
WHERE r.window_start > fromUnixTimestamp64Milli(greatest({start_ms:Int64}, {after_ms:Int64}) - 25200000, 'UTC')
  AND r.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND r.t_end >= fromUnixTimestamp64Milli(greatest({start_ms:Int64}, {after_ms:Int64}), 'UTC')
  AND r.t_end < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND (empty({tenants:Array(String)}) OR r.tenant IN {tenants:Array(String)})
  AND $cluster_in{r.cluster}
  AND ({workload:String} = '' OR r.workload = {workload:String})
  AND ({model:String} = '' OR r.model = {model:String})
  AND ({session_id:String} = '' OR r.session_id = {session_id:String})
  AND (toUnixTimestamp64Milli(r.t_end), r.tenant, r.cluster, r.workload, r.model, r.request_id, toUnixTimestamp64Milli(r.t_start))
    > ({after_ms:Int64}, {after_tenant:String}, {after_cluster:String}, {after_workload:String}, {after_model:String}, {after_request:String}, {after_start:Int64})
GROUP BY r.tenant, r.cluster, r.workload, r.model, r.request_id, r.session_id, r.trace_id, $dimensions{r.@}, r.status, r.t_start, r.t_end
ORDER BY t_end, tenant, cluster, workload, model, request_id, t_start
LIMIT {limit:UInt32}
