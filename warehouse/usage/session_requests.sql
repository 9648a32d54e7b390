-- Access: tenant
-- Sums of a session's requests, by trace: requests of the session, and requests of its traces that name no session.
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    trace_id, toUnixTimestamp64Milli(min(t_start)) AS first, toUnixTimestamp64Milli(max(t_end)) AS last,
    uniqExact(cluster, workload, model, request_id, t_start, t_end) AS requests,
    uniqExactIf((cluster, workload, model, request_id, t_start, t_end), status != 'ok') AS failures,
    $tokens{sum(@) AS @},
    max(has(simulated_clusters, toString(cluster))) AS simulated
FROM request_energy FINAL
WHERE tenant = {tenant:String}
  AND (session_id = {session_id:String} OR (trace_id IN {traces:Array(String)} AND session_id = ''))
GROUP BY trace_id
ORDER BY first, trace_id
LIMIT {limit:UInt32}
