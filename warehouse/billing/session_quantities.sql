-- Access: tenant
-- Metered quantities of a session by place and class of time, as usage_quantities.sql has those of a period.
WITH
    {starts:Array(Int64)} AS starts,
    arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}], $breaks))) AS stays
SELECT
    toString(h.of_tenant) AS tenant, toString(account.team) AS team, toString(account.cost_centre) AS cost_centre,
    toString(h.of_cluster) AS cluster, toString(h.of_workload) AS workload,
    toString(h.of_meter) AS meter, toString(h.of_unit) AS unit, h.number AS number, sum(h.quantity) AS quantity
FROM
(
    SELECT
        u.tenant AS of_tenant, $cluster{u.cluster} AS of_cluster, u.workload AS of_workload, u.meter AS of_meter, u.unit AS of_unit,
        transform(roundDown(toUnixTimestamp64Milli(u.at), starts), starts, {classes:Array(Int64)}) AS number,
        roundDown(toUnixTimestamp64Milli(u.at), stays) AS span,
        sum(toDecimal256(u.quantity, 12)) AS quantity
    FROM usage AS u FINAL
    WHERE u.tenant = {tenant:String}
      AND u.meter NOT IN {beside:Array(String)}
      AND (u.session_id = {session_id:String} OR (u.trace_id IN {traces:Array(String)} AND u.session_id = ''))
    GROUP BY of_tenant, of_cluster, of_workload, of_meter, of_unit, number, span
) AS h
$account
GROUP BY ALL
HAVING quantity != 0
ORDER BY tenant, cluster, workload, meter, unit, number, team, cost_centre
LIMIT {limit:UInt32}
