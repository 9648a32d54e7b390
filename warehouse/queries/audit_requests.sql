-- Do single requests' joules sum to their tenants' rows of the ledger? Per window, workload, tenant and model, in windows
-- of which every request is still stored: requests live 30 days from when they were written, all of a window together.
-- Rows without a model are no request's: idle, unallocated, an owner's.
SELECT
    count() AS windows,
    sumIf(off, NOT moving) AS residual_uj,
    countIf(off > 0 AND moving) AS restating,
    countIf(off > 0 AND NOT moving) AS unbalanced,
    groupArraySortedIf({worst:UInt16})(
        (-off, toUnixTimestamp64Milli(window_start), cluster, workload), off > 0 AND NOT moving) AS worst
FROM
(
    SELECT window_start, cluster, workload, sum(abs(active) + abs(idle)) AS off, max(late) AS moving
    FROM
    (
        SELECT
            s.window_start AS window_start, s.cluster AS cluster, s.workload AS workload,
            sum(toInt128(active_uj)) AS active, sum(toInt128(idle_uj)) AS idle, sum(rows) AS stored, max(old) AS expiring,
            max(m.log_id != '' AND late_id > greatest(m.tokens_offset, 0)) AS late
        FROM
        (
            SELECT
                window_start, cluster, workload, tenant, model, log_id, log_partition,
                sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj, count() AS rows, max(late_id) AS late_id,
                min(stored_at) < now() - INTERVAL 29 DAY AS old
            FROM request_energy FINAL
            WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            GROUP BY window_start, cluster, workload, tenant, model, log_id, log_partition

            UNION ALL

            SELECT
                window_start, cluster, workload, tenant, model, log_id, log_partition, -active_uj, -idle_uj, 0, 0, 0
            FROM ledger FINAL
            WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
              AND final = 1 AND model != ''
        ) AS s
        LEFT ANY JOIN (SELECT log_id, log_partition, final_end, tokens_offset FROM marks FINAL) AS m
            ON m.log_id = s.log_id AND m.log_partition = s.log_partition
        WHERE m.log_id = '' OR s.window_start < m.final_end
        GROUP BY s.window_start, s.cluster, s.workload, s.tenant, s.model
    )
    GROUP BY window_start, cluster, workload
    HAVING sum(stored) > 0 AND max(expiring) = 0
)
