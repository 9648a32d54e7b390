-- Access: internal
-- Full keys of the live rows of one partition of the log, from a time on.
SELECT $columns
FROM $table FINAL
WHERE log_id = {log_id:String} AND log_partition = {log_partition:UInt16}
  AND window_start >= fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC')
ORDER BY $columns
LIMIT {limit:UInt64}
