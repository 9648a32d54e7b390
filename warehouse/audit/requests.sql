-- Access: operator
-- Compares single requests' joules with their tenants' ledger rows, per window, workload, tenant and model. It covers
-- windows of which every request is still stored: requests live 30 days from when they were written, all of a window
-- together.
-- Rows without a model belong to no request: idle, unallocated, an owner's.
--
-- A message's requests in a window are either all kept, or none (setting `requests`). So a window is `partly` kept if
-- its in-time messages have work but no request, or, unless `kept` declares that all are kept, if a late message does.
-- The requests of such a window may sum to less than their tenants' rows, but not to more.
SELECT
    countIf(NOT partly) AS windows,
    countIf(partly) AS windows_partly,
    sumIf(off, NOT moving) AS residual_uj,
    countIf(off > 0 AND moving) AS restating,
    countIf(off > 0 AND NOT moving) AS unbalanced,
    groupArraySortedIf({worst:UInt16})(
        (-off, toUnixTimestamp64Milli(window_start), cluster, workload), off > 0 AND NOT moving) AS worst
FROM
(
    SELECT
        window_start, cluster, workload, max(late) AS moving,
        (sum(used_in_time) > 0 AND sum(kept_in_time) = 0)
            OR ({kept:UInt8} = 0 AND NOT hasAll(groupUniqArrayArray(kept_late), groupUniqArrayArray(used_late))) AS partly,
        if(partly,
            sum(greatest(active, 0) + greatest(idle, 0)),
            sum(abs(active) + abs(idle))) AS off
    FROM
    (
        SELECT
            s.window_start AS window_start, s.cluster AS cluster, s.workload AS workload,
            sum(toInt128(active_uj)) AS active, sum(toInt128(idle_uj)) AS idle, sum(rows) AS stored, max(old) AS expiring,
            max(m.log_id != '' AND latest_id > greatest(m.tokens_offset, 0)) AS late,
            sum(s.kept_in_time) AS kept_in_time, groupUniqArrayArray(s.kept_late) AS kept_late,
            sum(s.used_in_time) AS used_in_time, groupUniqArrayArray(s.used_late) AS used_late
        FROM
        (
            SELECT
                window_start, cluster, workload, tenant, model, log_id, log_partition,
                sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj, count() AS rows, max(late_id) AS latest_id,
                min(stored_at) < now() - INTERVAL 29 DAY AS old,
                countIf(late_id = 0) AS kept_in_time, groupUniqArrayIf(late_id, late_id > 0) AS kept_late,
                0 AS used_in_time, []::Array(UInt64) AS used_late
            FROM request_energy FINAL
            WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            GROUP BY window_start, cluster, workload, tenant, model, log_id, log_partition

            UNION ALL

            SELECT
                window_start, cluster, workload, tenant, model, log_id, log_partition,
                -active_uj, -idle_uj, 0, 0, 0, 0, [], 0, []
            FROM ledger FINAL
            WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
              AND final = 1 AND model != ''

            UNION ALL

            SELECT
                window_start, cluster, workload, tenant, model, log_id, log_partition,
                0, 0, 0, late_id, 0, 0, [], late_id = 0, if(late_id > 0, [late_id], [])
            FROM token_usage FINAL
            WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        ) AS s
        LEFT ANY JOIN (SELECT log_id, log_partition, final_end, tokens_offset FROM marks FINAL) AS m
            ON m.log_id = s.log_id AND m.log_partition = s.log_partition
        WHERE m.log_id = '' OR s.window_start < m.final_end
        GROUP BY s.window_start, s.cluster, s.workload, s.tenant, s.model
    )
    GROUP BY window_start, cluster, workload
    HAVING sum(stored) > 0 AND max(expiring) = 0
)
