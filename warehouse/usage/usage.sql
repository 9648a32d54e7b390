-- Access: tenant
-- Metered quantities by group, meter and unit. A row counts in the period and bucket of its last millisecond. Rows are
-- summed by raw keys first, which is cheap; only the sums get text keys, so that one sort key fits all groupings.
-- Different units are never added up. Decimal256, because a sum may have more digits than a row.
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    [$keys]::Array(String) AS keys, toString(g.of_meter) AS meter, toString(g.of_unit) AS unit,
    sum(g.quantity) AS quantity, sum(g.rows) AS rows, max(has(simulated_clusters, toString(g.in_cluster))) AS simulated
FROM
(
    SELECT
        $groups, u.meter AS of_meter, u.unit AS of_unit, $cluster{u.cluster} AS in_cluster,
        sum(toDecimal256(u.quantity, 12)) AS quantity, count() AS rows
    FROM usage AS u FINAL
    WHERE u.at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND u.at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND (empty({tenants:Array(String)}) OR u.tenant IN {tenants:Array(String)})
      AND $cluster_in{u.cluster}
      AND ({workload:String} = '' OR u.workload = {workload:String})
      AND ({meter:String} = '' OR u.meter = {meter:String})
    GROUP BY ALL
) AS g
GROUP BY keys, meter, unit
HAVING {after:Array(String)} = [] OR arrayConcat(keys, [meter, unit]) > {after:Array(String)}
ORDER BY keys, meter, unit
LIMIT {limit:UInt32}
