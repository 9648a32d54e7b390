-- Access: operator
-- Energy of the fleet by cluster, node, hardware type and time, after the total of all (`is_total` = 1, the first row).
-- A GPU is counted once in each group, by its id; one that is only a number is that of its node. Idle energy is known by
-- workload and hardware, as in fleet.sql. Facts of windows that are not final yet are left out, as there.
WITH
    facts AS
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(g.window_start), 3600000) AS hour_no, $groups
            $cluster{g.cluster} AS cluster, g.workload AS workload, g.hardware AS hardware, g.node AS node,
            if(NOT match(g.gpu_uuid, '[^0-9]'), concat($cluster{g.cluster}, '/', g.node, '/', g.gpu_uuid), toString(g.gpu_uuid)) AS gpu,
            sum(toInt128(g.energy_uj)) AS energy_uj,
            sum(g.covered_ms) AS covered_ms,
            sumIf(g.busy_ms, g.busy_ms >= 0) AS busy_ms,
            sumIf(g.covered_ms, g.busy_ms >= 0) AS known_ms,
            max(g.method) AS method
        FROM gpu_energy AS g FINAL
        LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
            ON m.log_id = g.log_id AND m.log_partition = g.log_partition
        WHERE g.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND g.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND $cluster_in{g.cluster}
          AND (m.log_id = '' OR g.window_start < m.final_end)
        GROUP BY ALL
    ),
    idle AS
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(t.$time), 3600000) AS hour_no,
            $cluster{t.cluster} AS cluster, t.workload AS workload, t.hardware AS hardware,
            sum(toInt128(t.idle_uj)) AS idle_uj,
            sum(toInt128(t.active_uj + t.idle_uj + t.unallocated_uj)) AS all_uj
        FROM $table AS t FINAL
        WHERE t.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND t.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND $only
          AND $cluster_in{t.cluster}
        GROUP BY hour_no, cluster, workload, hardware
    )
SELECT
    [$keys]::Array(String) AS keys, GROUPING(keys) AS is_total,
    uniqExactIf(h.gpu, $part{h.hardware} = 'gpu') AS gpus,
    sum(h.energy_uj) AS energy_uj,
    sum(h.covered_ms) AS covered_ms,
    sumIf(h.covered_ms, $part{h.hardware} = 'gpu') AS gpu_ms,
    if(sum(h.known_ms) > 0, sum(h.busy_ms) / sum(h.known_ms), NULL) AS utilisation_ratio,
    sumIf(h.energy_uj, i.all_uj > 0) AS known_uj,
    sumIf(toFloat64(h.energy_uj) * toFloat64(i.idle_uj) / toFloat64(i.all_uj), i.all_uj > 0) AS idle_uj,
    sumIf(h.energy_uj, startsWith(h.workload, '~')) AS unallocated_uj,
    max(h.method) AS method,
    max(ifNull(c.simulated, 0)) AS simulated
FROM facts AS h
LEFT JOIN idle AS i
    ON i.hour_no = h.hour_no AND i.cluster = h.cluster AND i.workload = h.workload AND i.hardware = h.hardware
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = h.cluster
GROUP BY GROUPING SETS ((keys), ())
ORDER BY is_total DESC, keys
LIMIT {limit:UInt32}
