-- Requests that ended in a period, oldest first, with their energy.
SELECT
    r.tenant AS tenant, r.cluster AS cluster, r.workload AS workload, r.model AS model, r.request_id AS request_id,
    r.session_id AS session_id, r.trace_id AS trace_id, r.status AS status,
    toUnixTimestamp64Milli(r.t_start) AS t_start, toUnixTimestamp64Milli(r.t_end) AS t_end,
    r.prompt_tokens AS prompt_tokens, r.cached_tokens AS cached_tokens, r.completion_tokens AS completion_tokens,
    r.active_uj AS active_uj, r.idle_uj AS idle_uj, r.windows AS windows,
    ifNull(c.simulated, 0) AS simulated
FROM requests AS r
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = r.cluster
WHERE r.t_end >= fromUnixTimestamp64Milli(greatest({start_ms:Int64}, {after_ms:Int64}), 'UTC')
  AND r.t_end < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND ({tenant:String} = '' OR r.tenant = {tenant:String})
  AND ({cluster:String} = '' OR r.cluster = {cluster:String})
  AND ({workload:String} = '' OR r.workload = {workload:String})
  AND ({model:String} = '' OR r.model = {model:String})
  AND ({session_id:String} = '' OR r.session_id = {session_id:String})
  AND (toUnixTimestamp64Milli(r.t_end), r.tenant, r.cluster, r.workload, r.model, r.request_id, toUnixTimestamp64Milli(r.t_start))
    > ({after_ms:Int64}, {after_tenant:String}, {after_cluster:String}, {after_workload:String}, {after_model:String}, {after_request:String}, {after_start:Int64})
ORDER BY t_end, tenant, cluster, workload, model, request_id, t_start
LIMIT {limit:UInt32}
