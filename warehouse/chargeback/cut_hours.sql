-- Access: shared
-- Whether a price changes inside an hour of a period.
SELECT
    toUInt8(count() > 0) AS cut
FROM prices FINAL
ARRAY JOIN [toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to)] AS change_ms
WHERE change_ms % 3600000 != 0 AND change_ms > {start_ms:Int64} AND change_ms < {end_ms:Int64}
  AND ({cluster:String} = '' OR cluster IN ({cluster:String}, '*'))
