-- Access: operator
-- Energy of nodes by hour, of those whose host is read (`wattlog produce host`): of their GPUs as agents record it beside
-- the ledger, and of what each zone of the host measures. `psys` is a part of the node that no one defines.
SELECT
    intDiv(toUnixTimestamp64Milli(u.at), 3600000) AS hour_no,
    toString(u.cluster) AS of_cluster, u.dimensions['node'] AS of_node,
    multiIf(u.meter != {host:String}, 'GPUs', u.dimensions['zone'] = 'node', 'wall',
        startsWith(u.dimensions['zone'], 'accel'), 'accelerators', 'host') AS of_part,
    toInt64(sum(u.quantity)) AS amount
FROM usage AS u FINAL
WHERE u.at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND u.at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND u.meter IN {meters:Array(String)}
  AND u.dimensions['zone'] != 'psys'
  AND (u.cluster, u.dimensions['node']) IN (
      SELECT cluster, dimensions['node'] FROM usage
      WHERE at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND meter = {host:String}
  )
GROUP BY hour_no, of_cluster, of_node, of_part
ORDER BY hour_no, of_cluster, of_node, of_part
LIMIT {limit:UInt32}
