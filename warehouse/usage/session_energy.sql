-- Access: tenant
-- Energy of a session by trace, cluster and hour, which its price depends on. The requests are those of
-- session_requests.sql.
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    trace_id, toString(cluster) AS of_cluster, intDiv(toUnixTimestamp64Milli(window_start), 3600000) AS hour_no,
    toUnixTimestamp64Milli(min(t_start)) AS first, toUnixTimestamp64Milli(max(t_end)) AS last,
    sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj,
    max(has(simulated_clusters, toString(cluster))) AS simulated
FROM request_energy FINAL
WHERE tenant = {tenant:String}
  AND (session_id = {session_id:String} OR (trace_id IN {traces:Array(String)} AND session_id = ''))
GROUP BY trace_id, of_cluster, hour_no
ORDER BY trace_id, of_cluster, hour_no
LIMIT {limit:UInt32}
