-- Access: internal
-- Live rows of some windows of some workloads. Ranges come first, for the index; then exactly those windows.
SELECT $columns
FROM $table FINAL
WHERE window_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND window_start <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
  AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
  AND (toUnixTimestamp64Milli(window_start), cluster, workload) IN
      (SELECT arrayJoin(arrayZip({windows:Array(Int64)}, {clusters:Array(String)}, {workloads:Array(String)})))
ORDER BY $key
