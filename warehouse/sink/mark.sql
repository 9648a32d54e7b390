-- Access: internal
-- The newest checkpoint of one partition of the log.
SELECT log_id, log_partition, epoch, version, toUnixTimestamp64Milli(final_end) AS final_end, power_offset, tokens_offset, state
FROM marks FINAL
WHERE log_id = {log_id:String} AND log_partition = {log_partition:UInt16}
