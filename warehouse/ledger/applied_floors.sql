-- Access: shared
-- The idle floors that attribution applied at an instant, by version: a hardware type's own before '*'.
SELECT applied.1 AS of_hardware, applied.2 AS of_version, hardware, idle_mw, source
FROM idle_floors FINAL
ARRAY JOIN arrayDistinct(arrayZip({hardwares:Array(String)}, {versions:Array(UInt32)})) AS applied
WHERE floor_version = of_version AND hardware IN (of_hardware, '*')
  AND valid_from <= fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
  AND valid_to > fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC')
ORDER BY of_hardware, of_version, hardware = '*'
LIMIT 1 BY of_hardware, of_version
