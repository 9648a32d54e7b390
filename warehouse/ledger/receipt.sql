-- Access: tenant
-- The pieces of requests with an id: one row for each window that one ran in.
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    r.tenant AS tenant, r.cluster AS cluster, r.workload AS workload, r.model AS model, r.request_id AS request_id,
    r.session_id AS session_id, r.trace_id AS trace_id, $dimensions{r.@ AS @}, r.status AS status,
    toUnixTimestamp64Milli(r.t_start) AS t_start, toUnixTimestamp64Milli(r.t_end) AS t_end,
    toUnixTimestamp64Milli(r.window_start) AS window_start, any(r.window_ms) AS window_ms,
    $tokens{sum(r.@) AS @}, sum(toInt128(r.active_uj)) AS active_uj, sum(toInt128(r.idle_uj)) AS idle_uj,
    max(has(simulated_clusters, toString(r.cluster))) AS simulated
FROM request_energy AS r FINAL
WHERE r.request_id = {request_id:String}
  AND (empty({tenants:Array(String)}) OR r.tenant IN {tenants:Array(String)})
  AND $cluster_in{r.cluster}
  AND ({workload:String} = '' OR r.workload = {workload:String})
  AND ({model:String} = '' OR r.model = {model:String})
GROUP BY r.tenant, r.cluster, r.workload, r.model, r.request_id, r.session_id, r.trace_id, $dimensions{r.@}, r.status, r.t_start, r.t_end, r.window_start
ORDER BY tenant, cluster, workload, model, t_start, window_start
LIMIT {limit:UInt32}
