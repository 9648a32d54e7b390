-- Access: operator
-- Second witnesses on wattlog.usage.v1, by the hour of their last millisecond: what servers' counters say, and watts.
-- `parts` are what reported: servers' pages, or GPUs.
SELECT
    intDiv(toUnixTimestamp64Milli(u.at), 3600000) AS hour_no,
    toString(u.cluster) AS of_cluster, toString(u.workload) AS of_workload, toString(u.tenant) AS of_tenant,
    toString(u.meter) AS of_meter, toInt64(sum(u.quantity)) AS amount, uniqExact(u.source, u.dimensions['gpu']) AS parts
FROM usage AS u FINAL
WHERE u.at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND u.at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND u.meter IN {meters:Array(String)}
GROUP BY hour_no, of_cluster, of_workload, of_tenant, of_meter
ORDER BY hour_no, of_cluster, of_workload, of_tenant, of_meter
LIMIT {limit:UInt32}
