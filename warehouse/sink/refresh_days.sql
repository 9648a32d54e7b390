-- Access: internal
-- Computes the days of some workloads anew from their hours, as refresh_hours.sql computes hours from windows.
--
-- A day's version is the sum of its hours' versions, deleted hours included: it grows with every change to one of them,
-- and so with every change to a window. Without any hour of a key, the stored version stays.
INSERT INTO ledger_day
(
    day, cluster, workload, hardware, model, tenant, $dimensions{@}, active_uj, idle_uj, unallocated_uj,
    work, requests, failures, windows, $tokens{@}, $latencies{@}, method, revision, version, deleted
)
WITH
    fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AS since,
    fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC') AS until
SELECT
    fromUnixTimestamp64Milli(day_no * 86400000, 'UTC'), cluster, workload, hardware, model, tenant, $dimensions{@},
    sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7],
    $tokens{sums[8 + #]}, $latencies{@}, worst[1], worst[2],
    if(seen[1] = 0, standing, seen[2]),
    sums[8] = 0
FROM
(
    SELECT
        day_no, cluster, workload, hardware, model, tenant, $dimensions{@},
        sumForEach(amounts) AS sums, maxForEach(marks) AS worst, sumForEach(stamp) AS seen, max(stored) AS standing,
        $latencies{sumMap(@) AS @}
    FROM
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(hour), 86400000) AS day_no,
            cluster, workload, hardware, model, tenant, $dimensions{@},
            [active_uj, idle_uj, unallocated_uj, work, requests, failures, windows, 1, $tokens{@}]::Array(Int64) AS amounts,
            [method, revision]::Array(UInt32) AS marks,
            [0, 0]::Array(UInt64) AS stamp,
            toUInt64(0) AS stored,
            $latencies{@}
        FROM ledger_hour FINAL
        WHERE hour >= since AND hour < until AND day_no IN {days:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}

        UNION ALL

        SELECT
            intDiv(toUnixTimestamp64Milli(hour), 86400000) AS day_no,
            cluster, workload, hardware, model, tenant, $dimensions{@}, [], [], [1, max(version)]::Array(UInt64), 0, $latencies{map()::Map(UInt16, UInt64)}
        FROM ledger_hour
        WHERE hour >= since AND hour < until AND day_no IN {days:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
        GROUP BY hour, cluster, workload, hardware, model, tenant, $dimensions{@}

        UNION ALL

        SELECT
            intDiv(toUnixTimestamp64Milli(day), 86400000) AS day_no,
            cluster, workload, hardware, model, tenant, $dimensions{@}, [], [], [], version, $latencies{map()::Map(UInt16, UInt64)}
        FROM ledger_day FINAL
        WHERE day >= since AND day < until AND day_no IN {days:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
    )
    GROUP BY day_no, cluster, workload, hardware, model, tenant, $dimensions{@}
)
