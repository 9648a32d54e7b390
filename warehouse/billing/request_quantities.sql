-- Access: tenant
-- Tokens and requests of one request, or of a session's, by place and class of time (billing/segments.py). A request
-- counts in the last window that it ran in, as in the ledger.
WITH
    {starts:Array(Int64)} AS starts,
    arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}], $breaks))) AS stays
SELECT
    toString(h.of_tenant) AS tenant, toString(account.team) AS team, toString(account.cost_centre) AS cost_centre,
    toString(h.of_cluster) AS cluster, toString(h.of_workload) AS workload, toString(h.of_model) AS model, h.number AS number,
    $tokens{sum(h.@) AS @}, sum(h.requests) AS requests, sum(h.failures) AS failures
FROM
(
    SELECT
        p.of_tenant AS of_tenant, p.of_cluster AS of_cluster, p.of_workload AS of_workload, p.of_model AS of_model,
        transform(roundDown(p.at_ms, starts), starts, {classes:Array(Int64)}) AS number,
        roundDown(p.at_ms, stays) AS span,
        $tokens{sum(p.@) AS @}, toInt64(countIf(p.at_ms = p.last_ms)) AS requests,
        toInt64(countIf(p.at_ms = p.last_ms AND p.ended != 'ok')) AS failures
    FROM
    (
        SELECT
            r.tenant AS of_tenant, $cluster{r.cluster} AS of_cluster, r.workload AS of_workload, r.model AS of_model,
            r.status AS ended, toUnixTimestamp64Milli(r.window_start) AS at_ms, $tokens{sum(r.@) AS @},
            max(at_ms) OVER (PARTITION BY r.tenant, r.cluster, r.workload, r.model, r.request_id, r.t_start, r.t_end) AS last_ms
        FROM request_energy AS r FINAL
        WHERE r.tenant = {tenant:String}
          AND $cluster_in{r.cluster}
          AND ({workload:String} = '' OR r.workload = {workload:String})
          AND ({model:String} = '' OR r.model = {model:String})
          AND ({request_id:String} = '' OR r.request_id = {request_id:String})
          AND (({session_id:String} = '' AND empty({traces:Array(String)})) OR r.session_id = {session_id:String}
               OR (r.trace_id IN {traces:Array(String)} AND r.session_id = ''))
        GROUP BY r.tenant, r.cluster, r.workload, r.model, r.request_id, r.t_start, r.t_end, r.status, r.window_start
    ) AS p
    GROUP BY of_tenant, of_cluster, of_workload, of_model, number, span
) AS h
$account
GROUP BY ALL
ORDER BY tenant, cluster, workload, model, number, team, cost_centre
LIMIT {limit:UInt32}
