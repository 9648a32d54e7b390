-- Access: shared
-- Tariffs, PUE and carbon intensities of some clusters, and of '*', that are valid at any time of [from_ms, until_ms).
SELECT
    kind, cluster, value, toUnixTimestamp64Milli(valid_from) AS valid_from_ms,
    toUnixTimestamp64Milli(valid_to) AS valid_to_ms, currency, source
FROM $prices
WHERE (cluster IN {clusters:Array(String)} OR cluster = '*')
  AND valid_from < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
ORDER BY kind, cluster, valid_from
