-- Access: tenant
-- A tenant's final rows of one workload in some windows, with the columns and in the order of fingerprint.sql, and their
-- revisions.
SELECT
    toUnixTimestamp64Milli(window_start) AS start_ms, window_ms, cluster, workload, hardware, model, tenant, $dimensions{@},
    active_uj, idle_uj, unallocated_uj, $tokens{@}, work, requests, failures,
    method, weights_version, floor_version, revision
FROM ledger FINAL
WHERE final = 1
  AND window_start IN (SELECT fromUnixTimestamp64Milli(arrayJoin({windows:Array(Int64)}), 'UTC'))
  AND tenant = {tenant:String} AND cluster = {cluster:String} AND workload = {workload:String}
ORDER BY start_ms, cluster, workload, hardware, tenant, model, $dimensions{@}
