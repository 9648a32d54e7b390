-- Access: shared
-- The work weights that attribution applied at an instant, by version: the closest match, model first.
SELECT
    applied.1 AS of_model, applied.2 AS of_hardware, applied.3 AS of_version,
    prompt_milli, cached_milli, completion_milli, source
FROM work_weights FINAL
ARRAY JOIN arrayDistinct(arrayZip({models:Array(String)}, {hardwares:Array(String)}, {versions:Array(UInt32)})) AS applied
WHERE weights_version = of_version AND model IN (of_model, '*') AND hardware IN (of_hardware, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY of_model, of_hardware, of_version, model = '*', hardware = '*'
LIMIT 1 BY of_model, of_hardware, of_version
