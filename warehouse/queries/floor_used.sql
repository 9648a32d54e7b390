-- The idle floor of a version that attribution used: the hardware's own before '*'.
SELECT hardware, idle_mw, floor_version, source
FROM idle_floors FINAL
WHERE floor_version = {version:UInt32} AND hardware IN ({hardware:String}, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY hardware = '*'
LIMIT 1
