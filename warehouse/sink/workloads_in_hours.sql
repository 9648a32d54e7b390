-- Access: internal
-- Workloads of one partition of the log with ledger rows in some hours.
SELECT DISTINCT cluster, workload
FROM ledger
WHERE log_id = {log_id:String} AND log_partition = {log_partition:UInt16}
  AND intDiv(toUnixTimestamp64Milli(window_start), 3600000) IN {hours:Array(Int64)}
  AND window_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND window_start < fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
