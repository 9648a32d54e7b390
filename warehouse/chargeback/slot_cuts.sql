-- Access: shared
-- A part of questions: days and hours, by number, that are cut where slots cannot be priced (`cut_`), and those in which
-- prices change (`price_`). Slots are the hours or quarters of an hour of a row's energy. Here `edges` are the period's
-- and those of groups.
    arrayConcat([{start_ms:Int64}, {end_ms:Int64}], $breaks) AS edges,
    arrayFilter(ms -> ms % 900000 != 0 OR has(edges, ms), changes) AS cut_times,
    arraySort(arrayDistinct(arrayPushFront(arrayFilter(ms -> ms < {end_ms:Int64}, cut_times), {start_ms:Int64}))) AS stays,
    arrayDistinct(arrayConcat({unslotted_days:Array(Int64)},
        arrayMap(ms -> intDiv(ms, 86400000), arrayFilter(ms -> ms % 86400000 != 0, cut_times)))) AS cut_days,
    arrayDistinct(arrayConcat({unslotted_hours:Array(Int64)},
        arrayMap(ms -> intDiv(ms, 3600000), arrayFilter(ms -> ms % 3600000 != 0, cut_times)))) AS cut_hours,
    arrayDistinct(arrayMap(ms -> intDiv(ms, 86400000), arrayFilter(ms -> ms % 86400000 != 0, changes))) AS price_days,
    arrayDistinct(arrayMap(ms -> intDiv(ms, 3600000), arrayFilter(ms -> ms % 3600000 != 0, changes))) AS price_hours
