-- Access: internal
-- What the tables hold of some clusters: facts and ledger of a period, and how far hours differ from their windows, and
-- days from their hours, over the full hours and days that the period touches. Differences are summed per key, so that
-- no two cancel. One question, so that its figures belong together.
WITH
    facts AS
    (
        SELECT sum(toInt128(energy_uj)) AS uj
        FROM gpu_energy FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND cluster IN {clusters:Array(String)}
    ),
    charges AS
    (
        SELECT
            sumIf(toInt128(active_uj + idle_uj + unallocated_uj), final = 1) AS uj, sumIf(requests, final = 1) AS requests,
            sumIf(prompt_tokens + completion_tokens, final = 1) AS tokens, countIf(final = 0) AS provisional_rows
        FROM ledger FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND cluster IN {clusters:Array(String)}
    ),
    hours AS
    (
        SELECT sum(toInt128(abs(off[1]))) AS off_uj, sum(toInt128(off[1])) AS lack_uj, sum(arraySum(arrayMap(o -> abs(o), arraySlice(off, 2)))) AS off_counts
        FROM
        (
            SELECT sumForEach(amounts) AS off
            FROM
            (
                SELECT
                    intDiv(toUnixTimestamp64Milli(window_start), 3600000) AS hour_no, cluster, workload, hardware, model, tenant, $dimensions{@},
                    [active_uj + idle_uj + unallocated_uj, work, requests, failures, $tokens{@}]::Array(Int64) AS amounts
                FROM ledger FINAL
                WHERE window_start >= fromUnixTimestamp64Milli({first_hour_ms:Int64}, 'UTC')
                  AND window_start < fromUnixTimestamp64Milli({end_hour_ms:Int64}, 'UTC')
                  AND cluster IN {clusters:Array(String)} AND final = 1

                UNION ALL

                SELECT
                    intDiv(toUnixTimestamp64Milli(hour), 3600000), cluster, workload, hardware, model, tenant, $dimensions{@},
                    [-active_uj - idle_uj - unallocated_uj, -work, -requests, -failures, $tokens{-@}]::Array(Int64)
                FROM ledger_hour FINAL
                WHERE hour >= fromUnixTimestamp64Milli({first_hour_ms:Int64}, 'UTC')
                  AND hour < fromUnixTimestamp64Milli({end_hour_ms:Int64}, 'UTC')
                  AND cluster IN {clusters:Array(String)}
            )
            GROUP BY hour_no, cluster, workload, hardware, model, tenant, $dimensions{@}
        )
    ),
    days AS
    (
        SELECT sum(toInt128(abs(off[1]))) AS off_uj, sum(toInt128(off[1])) AS lack_uj, sum(arraySum(arrayMap(o -> abs(o), arraySlice(off, 2)))) AS off_counts
        FROM
        (
            SELECT sumForEach(amounts) AS off
            FROM
            (
                SELECT
                    intDiv(toUnixTimestamp64Milli(hour), 86400000) AS day_no, cluster, workload, hardware, model, tenant, $dimensions{@},
                    [active_uj + idle_uj + unallocated_uj, work, requests, failures, $tokens{@}]::Array(Int64) AS amounts
                FROM ledger_hour FINAL
                WHERE hour >= fromUnixTimestamp64Milli({first_day_ms:Int64}, 'UTC')
                  AND hour < fromUnixTimestamp64Milli({end_day_ms:Int64}, 'UTC')
                  AND cluster IN {clusters:Array(String)}

                UNION ALL

                SELECT
                    intDiv(toUnixTimestamp64Milli(day), 86400000), cluster, workload, hardware, model, tenant, $dimensions{@},
                    [-active_uj - idle_uj - unallocated_uj, -work, -requests, -failures, $tokens{-@}]::Array(Int64)
                FROM ledger_day FINAL
                WHERE day >= fromUnixTimestamp64Milli({first_day_ms:Int64}, 'UTC')
                  AND day < fromUnixTimestamp64Milli({end_day_ms:Int64}, 'UTC')
                  AND cluster IN {clusters:Array(String)}
            )
            GROUP BY day_no, cluster, workload, hardware, model, tenant, $dimensions{@}
        )
    )
SELECT
    facts.uj AS measured_uj, charges.uj AS charged_uj, charges.tokens AS tokens, charges.requests AS requests,
    charges.provisional_rows AS provisional_rows,
    hours.off_uj AS hours_off_uj, hours.lack_uj AS hours_lack_uj, hours.off_counts AS hours_off_counts,
    days.off_uj AS days_off_uj, days.lack_uj AS days_lack_uj, days.off_counts AS days_off_counts
FROM facts, charges, hours, days
