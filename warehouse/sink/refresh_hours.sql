-- Access: internal
-- Computes the hours of some workloads anew from the final windows of the ledger.
--
-- `stamp` measures how much of the log a key's windows have seen. Final versions start at 2^62
-- (streams/core/row_versions.py). Their rest, summed over the hour's windows, tombstones included, grows with every
-- change and does not depend on merges. It is the hour's version; without any ledger row of a key, the stored version
-- stays.
-- Of equal versions the last insert wins, and has the same values.
--
-- `quarter_uj` is the energy by quarter of an hour, empty where some window reaches over a quarter's end.
INSERT INTO ledger_hour
(
    hour, cluster, workload, hardware, model, tenant, $dimensions{@}, active_uj, idle_uj, unallocated_uj,
    work, requests, failures, windows, quarter_uj, $tokens{@}, $latencies{@}, method, revision, version, deleted
)
WITH
    fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC') AS since,
    fromUnixTimestamp64Milli({to_ms:Int64}, 'UTC') AS until,
    toUInt64(4611686018427387904) AS first_final,
    (starts, after_ms) -> intDiv(toUnixTimestamp64Milli(starts) % 3600000 + after_ms, 900000) AS quarter_of
SELECT
    fromUnixTimestamp64Milli(hour_no * 3600000, 'UTC'), cluster, workload, hardware, model, tenant, $dimensions{@},
    sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7],
    if(worst[3] = 1 OR sums[7] = 0, [], arrayResize(by_quarter, 4)),
    $tokens{sums[7 + #]}, $latencies{@}, worst[1], worst[2],
    if(seen[1] = 0, standing, seen[2]),
    sums[7] = 0
FROM
(
    SELECT
        hour_no, cluster, workload, hardware, model, tenant, $dimensions{@},
        sumForEach(amounts) AS sums, maxForEach(marks) AS worst, sumForEach(stamp) AS seen, max(stored) AS standing,
        sumForEach(quarter) AS by_quarter, $latencies{sumMap(@) AS @}
    FROM
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(window_start), 3600000) AS hour_no,
            cluster, workload, hardware, model, tenant, $dimensions{@},
            [active_uj, idle_uj, unallocated_uj, work, requests, failures, 1, $tokens{@}]::Array(Int64) AS amounts,
            [method, revision, quarter_of(window_start, window_ms - 1) != quarter_of(window_start, 0)]::Array(UInt32) AS marks,
            arrayPushBack(arrayResize([]::Array(Int64), quarter_of(window_start, 0)), active_uj + idle_uj + unallocated_uj) AS quarter,
            [0, 0]::Array(UInt64) AS stamp,
            toUInt64(0) AS stored,
            $latencies{@}
        FROM ledger FINAL
        WHERE window_start >= since AND window_start < until AND hour_no IN {hours:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
          AND final = 1 AND deleted = 0

        UNION ALL

        SELECT
            intDiv(toUnixTimestamp64Milli(window_start), 3600000) AS hour_no,
            cluster, workload, hardware, model, tenant, $dimensions{@}, [], [], [],
            [1, max(version) - if(max(version) >= first_final, first_final, 0) + 1]::Array(UInt64), 0, $latencies{map()::Map(UInt16, UInt64)}
        FROM ledger
        WHERE window_start >= since AND window_start < until AND hour_no IN {hours:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
          AND (final = 1 OR version >= first_final)
        GROUP BY window_start, cluster, workload, hardware, model, tenant, $dimensions{@}

        UNION ALL

        SELECT
            intDiv(toUnixTimestamp64Milli(hour), 3600000) AS hour_no,
            cluster, workload, hardware, model, tenant, $dimensions{@}, [], [], [], [], version, $latencies{map()::Map(UInt16, UInt64)}
        FROM ledger_hour FINAL
        WHERE hour >= since AND hour < until AND hour_no IN {hours:Array(Int64)}
          AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
    )
    GROUP BY hour_no, cluster, workload, hardware, model, tenant, $dimensions{@}
)
