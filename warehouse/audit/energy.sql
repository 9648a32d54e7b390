-- Access: operator
-- Compares measured energy with the ledger: facts against final rows, per window, workload and hardware type, so that
-- no two differences cancel. A window counts once it lies before its partition's checkpoint; rows of logs without
-- checkpoints (imports) always count. A window that differs, with a late fact at or beyond the checkpoint's offset, is
-- `restating`.
-- `host` and `wall` are the same figures of these parts (measured, active, idle, unallocated, residual); the rest is
-- GPUs'. They have one entry where there is no such part.
-- `stray`: a final window with rows of an ownership (version / 2^28) before the one that finalised or restated it. A
-- worker wrote them after it had lost the partition.
WITH
    sides AS
    (
        SELECT
            window_start, cluster, workload, hardware, log_id, log_partition,
            sum(energy_uj) AS measured, 0::Int64 AS active, 0::Int64 AS idle, 0::Int64 AS unallocated, 0::Int64 AS work,
            max(late_id) AS late, 0 AS charged,
            minIf(bitShiftRight(version, 28), late_id = 0) AS oldest, maxIf(bitShiftRight(version, 28), late_id = 0) AS newest,
            countIf(late_id = 0) AS in_time, oldest AS oldest_row, newest AS newest_row
        FROM gpu_energy FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        GROUP BY window_start, cluster, workload, hardware, log_id, log_partition

        UNION ALL

        SELECT
            window_start, cluster, workload, hardware, log_id, log_partition,
            0, sum(active_uj), sum(idle_uj), sum(unallocated_uj), sum(work),
            0, 1,
            minIf(bitShiftRight(version, 28), revision = 0), maxIf(bitShiftRight(version, 28), revision = 0),
            countIf(revision = 0), min(bitShiftRight(version, 28)), max(bitShiftRight(version, 28))
        FROM ledger FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND final = 1
        GROUP BY window_start, cluster, workload, hardware, log_id, log_partition
    ),
    by_hardware AS
    (
        SELECT
            s.window_start AS window_start, s.cluster AS cluster, s.workload AS workload, $part{s.hardware} AS part,
            sum(toInt128(measured)) AS measured_uj, sum(toInt128(active)) AS active_uj, sum(toInt128(idle)) AS idle_uj,
            sum(toInt128(unallocated)) AS unallocated_uj, sum(toInt128(work)) AS done,
            max(m.log_id != '' AND late > greatest(m.power_offset, 0)) AS in_flight,
            any(s.log_id) AS log_id, any(s.log_partition) AS log_partition,
            minIf(oldest, in_time > 0) AS oldest_final, maxIf(newest, in_time > 0) AS newest_final, sum(in_time) AS first_rows,
            minIf(oldest_row, charged = 1) AS oldest_charge, maxIf(newest_row, charged = 1) AS newest_charge
        FROM sides AS s
        LEFT ANY JOIN (SELECT log_id, log_partition, final_end, power_offset FROM marks FINAL) AS m
            ON m.log_id = s.log_id AND m.log_partition = s.log_partition
        WHERE m.log_id = '' OR s.window_start < m.final_end
        GROUP BY s.window_start, s.cluster, s.workload, s.hardware
    ),
    windows AS
    (
        SELECT
            window_start, cluster, workload,
            sum(measured_uj) AS measured, sum(active_uj) AS active, sum(idle_uj) AS idle, sum(unallocated_uj) AS unallocated,
            sum(abs(measured_uj - active_uj - idle_uj - unallocated_uj)) AS residual,
            sum(done) AS work, max(in_flight) AS moving,
            sumForEachIf([measured_uj, active_uj, idle_uj, unallocated_uj,
                abs(measured_uj - active_uj - idle_uj - unallocated_uj)] AS equation, part = 'host') AS host,
            sumForEachIf(equation, part = 'wall') AS wall,
            max(newest_final) AS newest, minIf(oldest_final, first_rows > 0) AS oldest, sum(first_rows) AS in_time,
            max(newest_charge) AS newest_charged, minIf(oldest_charge, newest_charge > 0) AS oldest_charged,
            max(newest) OVER (PARTITION BY window_start, any(log_id), any(log_partition)) AS finaliser
        FROM by_hardware
        GROUP BY window_start, cluster, workload
    )
SELECT
    count() AS windows,
    sum(measured) AS measured_uj,
    sum(active) AS active_uj,
    sum(idle) AS idle_uj,
    sum(unallocated) AS unallocated_uj,
    arrayConcat(sumForEach(arraySlice(host, 1, 4)), [sumIf(host[5], NOT moving)]) AS host,
    arrayConcat(sumForEach(arraySlice(wall, 1, 4)), [sumIf(wall[5], NOT moving)]) AS wall,
    countIf(measured > 0 AND work = 0 AND unallocated = 0) AS windows_without_work,
    countIf(measured = 0 AND work > 0) AS windows_without_energy,
    sumIf(residual, NOT moving) AS residual_uj,
    groupArraySortedIf({worst:UInt16})(
        (-residual, toUnixTimestamp64Milli(window_start), cluster, workload), residual > 0 AND NOT moving) AS worst,
    countIf(residual > 0 AND NOT moving) AS unbalanced,
    countIf((in_time > 0 AND oldest < finaliser) OR oldest_charged < newest_charged) AS strays,
    groupArraySortedIf({worst:UInt16})(
        (toUnixTimestamp64Milli(window_start), cluster, workload),
        (in_time > 0 AND oldest < finaliser) OR oldest_charged < newest_charged) AS stray_windows,
    countIf(residual > 0 AND moving) AS restating,
    sumIf(residual, moving) AS restating_uj,
    groupArraySortedIf({worst:UInt16})(
        (-residual, toUnixTimestamp64Milli(window_start), cluster, workload), residual > 0 AND moving) AS restating_windows
FROM windows
