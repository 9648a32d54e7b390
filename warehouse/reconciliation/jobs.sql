-- Access: operator
-- Slurm's jobs that ended in a period, the newest first: their energy by the accounting, and their nodes.
SELECT
    intDiv(toUnixTimestamp64Milli(u.at), 3600000) AS hour_no,
    toString(u.cluster) AS of_cluster, toString(u.workload) AS of_workload, u.dimensions['node_list'] AS node_list,
    toUnixTimestamp64Milli(u.t0) AS t0_ms, toUnixTimestamp64Milli(u.t1) AS t1_ms, toInt64(u.quantity) AS energy_uj
FROM usage AS u FINAL
WHERE u.at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND u.at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND u.meter = {jobs:String} AND u.dimensions['node_list'] != ''
ORDER BY u.at DESC, u.log_partition, u.log_offset, u.log_row
LIMIT {limit:UInt32}
