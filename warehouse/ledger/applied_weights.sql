-- Access: shared
-- The work weights that attribution used in an instant, by version: the closest match, model first.
SELECT
    wanted.1 AS of_model, wanted.2 AS of_hardware, wanted.3 AS of_version,
    prompt_milli, cached_milli, completion_milli, source
FROM work_weights FINAL
ARRAY JOIN arrayDistinct(arrayZip({models:Array(String)}, {hardwares:Array(String)}, {versions:Array(UInt32)})) AS wanted
WHERE weights_version = of_version AND model IN (of_model, '*') AND hardware IN (of_hardware, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY of_model, of_hardware, of_version, model = '*', hardware = '*'
LIMIT 1 BY of_model, of_hardware, of_version
