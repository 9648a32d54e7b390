-- Access: tenant
-- Those of some windows' final rows that have no measured energy.
SELECT toUnixTimestamp64Milli(window_start) AS start_ms, tenant, cluster, workload, model
FROM ledger FINAL
WHERE window_start IN (SELECT fromUnixTimestamp64Milli(arrayJoin({windows:Array(Int64)}), 'UTC'))
  AND final = 1 AND method = 3
  AND (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})
  AND $cluster_in{cluster}
  AND ({workload:String} = '' OR workload = {workload:String})
  AND ({model:String} = '' OR model = {model:String})
