-- Access: tenant
-- Windows of some requests, with their energy, tokens, place and class of time: as request_quantities.sql has the sums of
-- one. A request counts in the last window that it ran in.
WITH
    {starts:Array(Int64)} AS starts,
    arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}], $breaks))) AS stays
SELECT
    h.request_id AS request_id, h.t_start_ms AS t_start, h.t_end_ms AS t_end, toString(h.stored_cluster) AS stored_cluster,
    h.at_ms AS window_start, h.window_ms AS window_ms, h.energy_uj AS energy_uj,
    toString(h.of_tenant) AS tenant, toString(account.team) AS team, toString(account.cost_centre) AS cost_centre,
    toString(h.of_cluster) AS cluster, toString(h.of_workload) AS workload, toString(h.of_model) AS model, h.number AS number,
    $tokens{h.@ AS @}, toInt64(h.at_ms = h.last_ms) AS requests, toInt64(h.at_ms = h.last_ms AND h.ended != 'ok') AS failures
FROM
(
    SELECT
        r.tenant AS of_tenant, r.cluster AS stored_cluster, $cluster{r.cluster} AS of_cluster, r.workload AS of_workload,
        r.model AS of_model, r.request_id AS request_id, r.status AS ended,
        toUnixTimestamp64Milli(r.t_start) AS t_start_ms, toUnixTimestamp64Milli(r.t_end) AS t_end_ms,
        toUnixTimestamp64Milli(r.window_start) AS at_ms, any(r.window_ms) AS window_ms,
        toInt64(sum(toInt128(r.active_uj) + toInt128(r.idle_uj))) AS energy_uj, $tokens{sum(r.@) AS @},
        transform(roundDown(at_ms, starts), starts, {classes:Array(Int64)}) AS number, roundDown(at_ms, stays) AS span,
        max(at_ms) OVER (PARTITION BY r.tenant, r.cluster, r.workload, r.model, r.request_id, r.t_start, r.t_end) AS last_ms
    FROM request_energy AS r FINAL
    WHERE (empty({tenants:Array(String)}) OR r.tenant IN {tenants:Array(String)})
      AND $cluster_in{r.cluster}
      AND r.request_id IN (SELECT arrayJoin({request_ids:Array(String)}))
      AND r.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND r.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY r.tenant, r.cluster, r.workload, r.model, r.request_id, r.t_start, r.t_end, r.status, r.window_start
) AS h
$account
ORDER BY request_id, t_start, window_start
LIMIT {limit:UInt32}
