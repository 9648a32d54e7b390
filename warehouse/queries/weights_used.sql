-- The work weights of a version that attribution used: the closest match, model first.
SELECT model, hardware, prompt_milli, cached_milli, completion_milli, weights_version, source
FROM work_weights FINAL
WHERE weights_version = {version:UInt32} AND model IN ({model:String}, '*') AND hardware IN ({hardware:String}, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY model = '*', hardware = '*'
LIMIT 1
