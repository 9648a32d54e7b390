-- Access: tenant
-- Tokens and requests of a period, by place and class of time (billing/segments.py). Rows are summed by the tenant's
-- stay in a team first, which is cheap; only the sums are joined with it.
WITH
    {starts:Array(Int64)} AS starts,
    arrayConcat({starts:Array(Int64)}, [{start_ms:Int64}, {end_ms:Int64}], $breaks) AS changes,
    arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}], $breaks))) AS stays,
    $cuts
SELECT
    toString(h.of_tenant) AS tenant, toString(account.team) AS team, toString(account.cost_centre) AS cost_centre,
    toString(h.of_cluster) AS cluster, toString(h.of_workload) AS workload, toString(h.of_model) AS model,
    toString(h.of_hardware) AS hardware, h.number AS number,
    $tokens{sum(h.@) AS @}, sum(h.requests) AS requests, sum(h.failures) AS failures
FROM
(
    SELECT
        c.tenant AS of_tenant, c.cluster AS of_cluster, c.workload AS of_workload, c.model AS of_model,
        c.hardware AS of_hardware,
        transform(roundDown(toUnixTimestamp64Milli(c.at), starts), starts, {classes:Array(Int64)}) AS number,
        roundDown(toUnixTimestamp64Milli(c.at), stays) AS span,
        $tokens{sum(c.@) AS @}, sum(c.requests) AS requests, sum(c.failures) AS failures
    FROM
    (
$charges
    ) AS c
    GROUP BY of_tenant, of_cluster, of_workload, of_model, of_hardware, number, span
) AS h
$account
WHERE arrayExists(count -> count != 0, [$tokens{h.@}, h.requests, h.failures])
GROUP BY ALL
ORDER BY tenant, cluster, workload, model, hardware, number, team, cost_centre
LIMIT {limit:UInt32}
