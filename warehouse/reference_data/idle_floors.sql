-- Access: shared
-- All idle floors, by hardware type and start.
SELECT
    hardware, toUnixTimestamp64Milli(valid_from) AS valid_from_ms, toUnixTimestamp64Milli(valid_to) AS valid_to_ms,
    idle_mw, floor_version, source
FROM idle_floors FINAL
ORDER BY hardware, valid_from
