-- Access: internal
-- Number of stored rows in some windows of some workloads, superseded ones included: hence no FINAL.
SELECT toUnixTimestamp64Milli(window_start) AS start_ms, cluster, workload, count() AS stored
FROM $table
WHERE window_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND window_start <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
  AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
  AND (toUnixTimestamp64Milli(window_start), cluster, workload) IN
      (SELECT arrayJoin(arrayZip({windows:Array(Int64)}, {clusters:Array(String)}, {workloads:Array(String)})))
GROUP BY start_ms, cluster, workload
