-- Access: operator
-- Final hours of some clusters or tenants that touch spans of time, their energy, and their months.
SELECT
    uniqExact(t.hour) AS hours,
    sum(toInt128(t.active_uj + t.idle_uj + t.unallocated_uj)) AS energy_uj,
    arraySort(groupUniqArray(toYYYYMM(t.hour, {zone:String}))) AS months
FROM ledger_hour AS t FINAL
WHERE t.$column IN {names:Array(String)}
  AND t.hour IN
  (
    SELECT fromUnixTimestamp64Milli(arrayJoin(arrayFlatten(arrayMap(
        (from_ms, until_ms) -> range(intDiv(from_ms, 3600000), intDiv(until_ms + 3599999, 3600000)),
        {starts:Array(Int64)}, {ends:Array(Int64)}))) * 3600000, 'UTC')
  )
