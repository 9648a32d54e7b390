-- Access: operator
-- Compares hours with their final windows, and with their energy by quarter of an hour, per key, for full hours. Two
-- kinds are left out: workloads whose hour is still being written (it has a final window beyond its partition's checkpoint), and hours without any stored window.
-- The latter outlive their windows, and are counted. Workers compute hours anew when they have time: a difference in an
-- hour that a checkpoint lists as due counts as `restating`.
WITH
    keys AS
    (
        SELECT
            hour_no, cluster, workload, hardware, model, tenant, $dimensions{@},
            sumForEach(amounts) AS differences, max(writing) AS writing, max(from_ledger) AS from_ledger
        FROM
        (
            SELECT
                intDiv(toUnixTimestamp64Milli(l.window_start), 3600000) AS hour_no,
                l.cluster AS cluster, l.workload AS workload, l.hardware AS hardware, l.model AS model, l.tenant AS tenant, $dimensions{l.@ AS @},
                [l.active_uj, l.idle_uj, l.unallocated_uj, 0, $tokens{l.@}, l.work, l.requests, l.failures]::Array(Int64) AS amounts,
                m.log_id != '' AND l.window_start >= m.final_end AS writing,
                1 AS from_ledger
            FROM ledger AS l FINAL
            LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
                ON m.log_id = l.log_id AND m.log_partition = l.log_partition
            WHERE l.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND l.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
              AND l.final = 1

            UNION ALL

            SELECT
                intDiv(toUnixTimestamp64Milli(hour), 3600000), cluster, workload, hardware, model, tenant, $dimensions{@},
                [-active_uj, -idle_uj, -unallocated_uj,
                    if(empty(quarter_uj), 0, active_uj + idle_uj + unallocated_uj - arraySum(quarter_uj)), $tokens{-@}, -work, -requests, -failures]::Array(Int64),
                0, 0
            FROM ledger_hour FINAL
            WHERE hour >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND hour < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        )
        GROUP BY hour_no, cluster, workload, hardware, model, tenant, $dimensions{@}
    ),
    subjects AS
    (
        SELECT
            hour_no, cluster, workload, max(writing) AS open, max(from_ledger) AS stored,
            sumForEach(arrayMap(d -> abs(d), differences)) AS off, sum(differences[1] + differences[2] + differences[3]) AS lack
        FROM keys
        GROUP BY hour_no, cluster, workload
    )
SELECT
    countIf(stored = 1 AND open = 0) AS hours,
    countIf(stored = 0) AS hours_without_windows,
    sumIf(energy_off, NOT due AND stored = 1 AND open = 0) AS residual_uj,
    sumIf(lack, stored = 1 AND open = 0) AS lack_uj,
    sumIf(counts_off, NOT due AND stored = 1 AND open = 0) AS residual_counts,
    countIf(energy_off + counts_off > 0 AND due AND stored = 1 AND open = 0) AS restating,
    sumIf(energy_off, due AND stored = 1 AND open = 0) AS restating_uj,
    sumIf(counts_off, due AND stored = 1 AND open = 0) AS restating_counts,
    groupArraySortedIf({worst:UInt16})(
        (-energy_off, hour_no * 3600000, cluster, workload), energy_off > 0 AND due AND stored = 1 AND open = 0) AS restating_windows
FROM
(
    SELECT
        hour_no, cluster, workload, open, stored, lack,
        greatest(off[1] + off[2] + off[3], off[4]) AS energy_off, arraySum(arraySlice(off, 5)) AS counts_off,
        hour_no * 3600000 IN (SELECT arrayJoin(JSONExtract(state, 'hours', 'Array(Int64)')) FROM marks FINAL) AS due
    FROM subjects
)
