-- Access: tenant
-- Energy of a session by trace, cluster and time without a price change (as in chargeback.sql), which its price depends
-- on. The requests are those of session_requests.sql. A window is unmetered where no energy of its workload was measured, as the tenant's row says.
WITH
    (SELECT arraySort(arrayDistinct(arrayPushBack(groupUniqArrayArray(
        [toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to)]), toInt64(0)))) FROM prices FINAL) AS changes,
    (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters,
    (window_start, cluster, workload, model) IN
    (
        SELECT window_start, cluster, workload, model
        FROM ledger FINAL
        WHERE tenant = {tenant:String} AND final = 1 AND method = 3
          AND window_start IN
          (
              SELECT window_start FROM request_energy
              WHERE tenant = {tenant:String}
                AND (session_id = {session_id:String} OR (trace_id IN {traces:Array(String)} AND session_id = ''))
          )
    ) AS is_unmetered
SELECT
    trace_id, toString(cluster) AS of_cluster, roundDown(toUnixTimestamp64Milli(window_start), changes) AS span,
    toUnixTimestamp64Milli(min(window_start)) AS from_ms, max(toUnixTimestamp64Milli(window_start) + window_ms) AS until_ms,
    toUnixTimestamp64Milli(min(t_start)) AS first, toUnixTimestamp64Milli(max(t_end)) AS last,
    sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj,
    max(NOT is_unmetered) AS metered, sumIf(prompt_tokens + completion_tokens, is_unmetered) AS unmetered_tokens,
    max(has(simulated_clusters, toString(cluster))) AS simulated
FROM request_energy FINAL
WHERE tenant = {tenant:String}
  AND (session_id = {session_id:String} OR (trace_id IN {traces:Array(String)} AND session_id = ''))
GROUP BY trace_id, of_cluster, span
ORDER BY trace_id, of_cluster, span
LIMIT {limit:UInt32}
