-- Access: shared
-- Tariff, PUE and carbon intensity of some clusters at an instant: a cluster's own before '*', the latest start first.
SELECT
    scope, toString(kind) AS kind, cluster, value, currency, source,
    toUnixTimestamp64Milli(valid_from) AS valid_from_ms, toUnixTimestamp64Milli(valid_to) AS valid_to_ms
FROM prices FINAL
ARRAY JOIN {clusters:Array(String)} AS scope
WHERE cluster IN (scope, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY scope, kind, cluster = '*', valid_from DESC
LIMIT 1 BY scope, kind
