-- Access: internal
-- Computes the days of some workloads anew from their hours, as refresh_hours.sql computes hours from windows.
--
-- A day's version is the sum of its hours' versions, deleted hours included: it grows with every change to one of them,
-- and so with every change to a window. Without any hour of a key, the stored version stays.
--
-- `hour_uj` and `quarter_uj` are the energy by hour and by quarter of an hour; the latter is empty where some hour's is.
INSERT INTO ledger_day
(
    day, cluster, workload, hardware, model, tenant, $dimensions{@}, active_uj, idle_uj, unallocated_uj,
    work, requests, failures, windows, hour_uj, quarter_uj, $tokens{@}, $latencies{@}, method, revision, version, deleted
)
WITH
    fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AS since,
    fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC') AS until,
    at -> intDiv(toUnixTimestamp64Milli(at) % 86400000, 3600000) AS hour_of,
    length -> arrayResize([]::Array(Int64), length) AS zeros
SELECT
    fromUnixTimestamp64Milli(day_no * 86400000, 'UTC'), cluster, workload, hardware, model, tenant, $dimensions{@},
    sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7],
    arrayResize(by_hour, 24), if(worst[3] = 1, [], arrayResize(by_quarter, 96)),
    $tokens{sums[8 + #]}, $latencies{@}, worst[1], worst[2],
    if(seen[1] = 0, standing, seen[2]),
    sums[8] = 0
FROM
(
    SELECT
        day_no, cluster, workload, hardware, model, tenant, $dimensions{@},
        sumForEach(amounts) AS sums, maxForEach(marks) AS worst, sumForEach(stamp) AS seen, max(stored) AS standing,
        sumForEach(in_hour) AS by_hour, sumForEach(in_quarters) AS by_quarter, $latencies{sumMap(@) AS @}
    FROM
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(hour), 86400000) AS day_no,
            cluster, workload, hardware, model, tenant, $dimensions{@},
            [active_uj, idle_uj, unallocated_uj, work, requests, failures, windows, 1, $tokens{@}]::Array(Int64) AS amounts,
            [method, revision, empty(quarter_uj)]::Array(UInt32) AS marks,
            arrayPushBack(zeros(hour_of(hour)), active_uj + idle_uj + unallocated_uj) AS in_hour,
            arrayConcat(zeros(4 * hour_of(hour)), quarter_uj) AS in_quarters,
            [0, 0]::Array(UInt64) AS stamp,
            toUInt64(0) AS stored,
            $latencies{@}
        FROM ledger_hour FINAL
        WHERE hour >= since AND hour < until AND day_no IN {days:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}

        UNION ALL

        SELECT
            intDiv(toUnixTimestamp64Milli(hour), 86400000) AS day_no,
            cluster, workload, hardware, model, tenant, $dimensions{@}, [], [], [], [], [1, max(version)]::Array(UInt64), 0, $latencies{map()::Map(UInt16, UInt64)}
        FROM ledger_hour
        WHERE hour >= since AND hour < until AND day_no IN {days:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
        GROUP BY hour, cluster, workload, hardware, model, tenant, $dimensions{@}

        UNION ALL

        SELECT
            intDiv(toUnixTimestamp64Milli(day), 86400000) AS day_no,
            cluster, workload, hardware, model, tenant, $dimensions{@}, [], [], [], [], [], version, $latencies{map()::Map(UInt16, UInt64)}
        FROM ledger_day FINAL
        WHERE day >= since AND day < until AND day_no IN {days:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
    )
    GROUP BY day_no, cluster, workload, hardware, model, tenant, $dimensions{@}
)
