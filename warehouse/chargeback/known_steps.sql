-- Access: shared
-- Starts of the hours or days of a period in which the ledger has any final row, in epoch milliseconds. These are times
-- only, and no rows of a tenant.
SELECT DISTINCT intDiv(toUnixTimestamp64Milli(t.$time), {step_ms:Int64}) * {step_ms:Int64} AS step_ms
FROM $table AS t FINAL
WHERE t.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND t.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND $only
