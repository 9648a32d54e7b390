-- Access: internal
-- The live rows of some windows of some workloads. The ranges first, for the sake of the index; then exactly those.
SELECT $columns
FROM $table FINAL
WHERE window_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
  AND window_start <= fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC')
  AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
  AND (toUnixTimestamp64Milli(window_start), cluster, workload) IN
      (SELECT arrayJoin(arrayZip({windows:Array(Int64)}, {clusters:Array(String)}, {workloads:Array(String)})))
ORDER BY $key
