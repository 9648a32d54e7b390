-- Is every measured joule in the ledger, exactly once? Facts against final rows, per window, workload and hardware type,
-- so that nothing cancels. A window counts once it is final: it has final rows, or its facts lie before their
-- partition's mark (facts of logs without marks, imports, always count).
WITH
    by_hardware AS
    (
        SELECT
            window_start, cluster, workload, hardware,
            sum(measured) AS measured_uj, sum(active) AS active_uj, sum(idle) AS idle_uj, sum(unallocated) AS unallocated_uj,
            max(closed) AS closed
        FROM
        (
            SELECT
                g.window_start AS window_start, g.cluster AS cluster, g.workload AS workload, g.hardware AS hardware,
                toInt128(g.energy_uj) AS measured, toInt128(0) AS active, toInt128(0) AS idle, toInt128(0) AS unallocated,
                m.log_id = '' OR g.window_start < m.final_end AS closed
            FROM gpu_energy AS g FINAL
            LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
                ON m.log_id = g.log_id AND m.log_partition = g.log_partition
            WHERE g.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND g.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')

            UNION ALL

            SELECT
                window_start, cluster, workload, hardware,
                toInt128(0), toInt128(active_uj), toInt128(idle_uj), toInt128(unallocated_uj), 1
            FROM ledger FINAL
            WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
              AND final = 1
        )
        GROUP BY window_start, cluster, workload, hardware
    ),
    windows AS
    (
        SELECT
            window_start, cluster, workload,
            sum(measured_uj) AS measured, sum(active_uj) AS active, sum(idle_uj) AS idle, sum(unallocated_uj) AS unallocated,
            sum(abs(measured_uj - active_uj - idle_uj - unallocated_uj)) AS residual
        FROM by_hardware
        GROUP BY window_start, cluster, workload
        HAVING max(closed) = 1
    )
SELECT
    count() AS windows,
    sum(measured) AS measured_uj,
    sum(active) AS active_uj,
    sum(idle) AS idle_uj,
    sum(unallocated) AS unallocated_uj,
    sum(residual) AS residual_uj,
    groupArraySortedIf({worst:UInt16})(
        (-residual, toUnixTimestamp64Milli(window_start), cluster, workload), residual > 0) AS worst
FROM windows
