-- Access: operator
-- Compares days with their hours, and with their energy by hour and quarter of an hour, per key, for full days. Days are computed anew with their hours. A difference in a
-- day with an hour that a checkpoint lists as due counts as `restating`.
WITH
    active_uj + idle_uj + unallocated_uj AS energy_uj,
    (SELECT groupUniqArray(intDiv(arrayJoin(JSONExtract(state, 'hours', 'Array(Int64)')), 86400000)) FROM marks FINAL) AS due_days,
    keys AS
    (
        SELECT day_no, cluster, workload, hardware, model, tenant, $dimensions{@}, sumForEach(amounts) AS differences
        FROM
        (
            SELECT
                intDiv(toUnixTimestamp64Milli(hour), 86400000) AS day_no, cluster, workload, hardware, model, tenant, $dimensions{@},
                [active_uj, idle_uj, unallocated_uj, 0, 0, $tokens{@}, work, requests, failures]::Array(Int64) AS amounts
            FROM ledger_hour FINAL
            WHERE hour >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND hour < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')

            UNION ALL

            SELECT
                intDiv(toUnixTimestamp64Milli(day), 86400000), cluster, workload, hardware, model, tenant, $dimensions{@},
                [-active_uj, -idle_uj, -unallocated_uj, if(empty(hour_uj), 0, energy_uj - arraySum(hour_uj)),
                    if(empty(quarter_uj), 0, energy_uj - arraySum(quarter_uj)), $tokens{-@}, -work, -requests, -failures]::Array(Int64)
            FROM ledger_day FINAL
            WHERE day >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND day < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        )
        GROUP BY day_no, cluster, workload, hardware, model, tenant, $dimensions{@}
    ),
    subjects AS
    (
        SELECT
            day_no, cluster, workload, sumForEach(arrayMap(d -> abs(d), differences)) AS off,
            sum(differences[1] + differences[2] + differences[3]) AS lack,
            greatest(off[1] + off[2] + off[3], off[4], off[5]) AS energy_off, arraySum(arraySlice(off, 6)) AS counts_off,
            has(due_days, day_no) AS due
        FROM keys
        GROUP BY day_no, cluster, workload
    )
SELECT
    uniqExact(day_no) AS days,
    sumIf(energy_off, NOT due) AS day_residual_uj,
    sumIf(counts_off, NOT due) AS day_residual_counts,
    sum(lack) AS days_lack_uj,
    countIf(energy_off + counts_off > 0 AND due) AS restating,
    sumIf(energy_off, due) AS restating_uj,
    sumIf(counts_off, due) AS restating_counts,
    groupArraySortedIf({worst:UInt16})(
        (-energy_off, day_no * 86400000, cluster, workload), energy_off > 0 AND due) AS restating_windows
FROM subjects
