-- Access: tenant
-- Histograms of latencies of each group, sorted by its keys. Groups and tables are those of a chargeback
-- (warehouse/chargeback/dimensions.py, rollups.py), without its prices: only days and hours that the period or a
-- tenant's move cuts are read from finer tables.
WITH
    arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}, {end_ms:Int64}], $breaks))) AS changes,
    if(length(changes) = 1, changes, arrayPopBack(changes)) AS spans,
    $cuts,
    (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters,
    histograms AS
    (
        SELECT $groups, roundDown(toUnixTimestamp64Milli(c.at), spans) AS span, $latencies{sumMap(c.@) AS @}
        FROM
        (
$charges
        ) AS c
        GROUP BY ALL
    )
SELECT
    [$keys]::Array(String) AS keys, max(has(simulated_clusters, toString(h.of_cluster))) AS simulated,
    $latencies{sumMap(h.@) AS @}
FROM histograms AS h
$account
GROUP BY keys
HAVING length(mapKeys(request_duration)) > 0 AND ({after:Array(String)} = [] OR keys > {after:Array(String)})
ORDER BY keys
LIMIT {limit:UInt32}
