-- Access: operator
-- Energy of nodes' GPUs as agents record it beside the ledger, by the ends of its rows.
SELECT
    toString(u.cluster) AS of_cluster, u.dimensions['node'] AS of_node, toUnixTimestamp64Milli(u.t1) AS t1_ms,
    min(toUnixTimestamp64Milli(u.t0)) AS t0_ms, toInt64(sum(u.quantity)) AS energy_uj
FROM usage AS u FINAL
WHERE u.at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND u.at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND u.meter IN {meters:Array(String)} AND u.dimensions['node'] != ''
GROUP BY of_cluster, of_node, t1_ms
ORDER BY of_cluster, of_node, t1_ms
LIMIT {limit:UInt32}
