-- Access: tenant
-- Days in which prices change whose energy by slot is not known, and hours of cut days likewise: rows from before slots
-- were stored, or with windows that reach over a slot's end. They are read from hours, and from windows.
WITH
    $spans,
    $slot_cuts,
    (
        SELECT groupUniqArray(intDiv(toUnixTimestamp64Milli(t.day), 86400000) AS day_no)
        FROM ledger_day AS t FINAL
        WHERE t.day >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND t.day < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND has(price_days, day_no) AND NOT has(cut_days, day_no) AND length(t.$day_slots) != {day_count:UInt8}
          AND (empty({tenants:Array(String)}) OR t.tenant IN {tenants:Array(String)})
          AND $cluster_in{t.cluster}
          AND $within{t.hardware}
    ) AS days
SELECT
    days,
    (
        SELECT groupUniqArray(intDiv(toUnixTimestamp64Milli(t.hour), 3600000) AS hour_no)
        FROM ledger_hour AS t FINAL
        WHERE t.hour >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND t.hour < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND has(price_hours, hour_no) AND NOT has(cut_hours, hour_no) AND length(t.quarter_uj) != 4
          AND ({by_hour:Bool} OR has(arrayConcat(cut_days, days), intDiv(hour_no, 24)))
          AND (empty({tenants:Array(String)}) OR t.tenant IN {tenants:Array(String)})
          AND $cluster_in{t.cluster}
          AND $within{t.hardware}
    ) AS hours
