-- Access: operator
-- Energy of each node's GPUs, by hardware type, and of its host or its meter at the wall, which are no GPUs. The ledger
-- has idle energy per workload and hardware, not per node. So a node's measured energy takes the idle ratio of its workload and hardware in that hour.
-- Facts of windows that are not final yet are left out; without a checkpoint (history, imports) all are final.
WITH
    facts AS
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(g.window_start), 3600000) AS hour_no,
            $cluster{g.cluster} AS cluster, g.workload AS workload, g.hardware AS hardware, g.node AS node, g.gpu_uuid AS gpu_uuid,
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
        GROUP BY hour_no, cluster, workload, hardware, node, gpu_uuid
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
    f.cluster AS cluster, f.node AS node, f.hardware AS hardware,
    $part{f.hardware} = 'gpu' AS is_gpu,
    if(is_gpu, uniqExact(f.gpu_uuid), 0) AS gpus,
    sum(f.energy_uj) AS energy_uj,
    sum(f.covered_ms) AS covered_ms,
    if(is_gpu, sum(f.covered_ms), 0) AS gpu_ms,
    if(sum(f.known_ms) > 0, sum(f.busy_ms) / sum(f.known_ms), NULL) AS utilisation_ratio,
    sumIf(f.energy_uj, i.all_uj > 0) AS known_uj,
    sumIf(toFloat64(f.energy_uj) * toFloat64(i.idle_uj) / toFloat64(i.all_uj), i.all_uj > 0) AS idle_uj,
    sumIf(f.energy_uj, startsWith(f.workload, '~')) AS unallocated_uj,
    max(f.method) AS method,
    max(ifNull(c.simulated, 0)) AS simulated
FROM facts AS f
LEFT JOIN idle AS i
    ON i.hour_no = f.hour_no AND i.cluster = f.cluster AND i.workload = f.workload AND i.hardware = f.hardware
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = f.cluster
GROUP BY cluster, node, hardware
HAVING {first:UInt8} = 1 OR (cluster, node, hardware) > ({after_cluster:String}, {after_node:String}, {after_hardware:String})
ORDER BY cluster, node, hardware
LIMIT {limit:UInt32}
