-- Access: tenant
-- Energy of GPUs of a period by place and class of time, for dividing their time. See ledger_quantities.sql.
WITH
    {starts:Array(Int64)} AS starts,
    arrayConcat({starts:Array(Int64)}, [{start_ms:Int64}, {end_ms:Int64}], $breaks) AS changes,
    arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}], $breaks))) AS stays,
    $cuts
SELECT
    toString(h.of_tenant) AS tenant, toString(account.team) AS team, toString(account.cost_centre) AS cost_centre,
    toString(h.of_cluster) AS cluster, toString(h.of_workload) AS workload, toString(h.of_model) AS model,
    toString(h.of_hardware) AS hardware, h.number AS number,
    sum(toInt128(h.energy_uj)) AS energy_uj
FROM
(
    SELECT
        c.tenant AS of_tenant, c.cluster AS of_cluster, c.workload AS of_workload, c.model AS of_model,
        c.hardware AS of_hardware,
        transform(roundDown(toUnixTimestamp64Milli(c.at), starts), starts, {classes:Array(Int64)}) AS number,
        roundDown(toUnixTimestamp64Milli(c.at), stays) AS span,
        sum(toInt128(c.active_uj) + c.idle_uj + c.unallocated_uj) AS energy_uj
    FROM
    (
$charges
    ) AS c
    WHERE $part{c.hardware} = 'gpu' AND c.method != 3
    GROUP BY of_tenant, of_cluster, of_workload, of_model, of_hardware, number, span
) AS h
$account
WHERE h.energy_uj != 0
GROUP BY ALL
ORDER BY tenant, cluster, workload, model, hardware, number, team, cost_centre
LIMIT {limit:UInt32}
