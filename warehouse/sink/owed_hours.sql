-- Access: internal
-- Checkpoints of in-process logs that name hours which `ledger_hour` may lack.
SELECT
    log_id, log_partition, epoch, version, toUnixTimestamp64Milli(final_end) AS final_end, power_offset, tokens_offset, state
FROM marks FINAL
WHERE startsWith(log_id, {log_prefix:String}) AND length(JSONExtract(state, 'hours', 'Array(Int64)')) > 0
