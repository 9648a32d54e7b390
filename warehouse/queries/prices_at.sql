-- The tariff, PUE and carbon intensity of a cluster at an instant: its own before '*', the latest start before others.
SELECT
    toString(kind) AS kind, cluster, value, currency, source,
    toUnixTimestamp64Milli(valid_from) AS valid_from_ms, toUnixTimestamp64Milli(valid_to) AS valid_to_ms
FROM prices FINAL
WHERE cluster IN ({cluster:String}, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY kind, cluster = '*', valid_from DESC
LIMIT 1 BY kind
