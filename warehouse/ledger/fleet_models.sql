-- Access: operator
-- Energy of the fleet by model, after the total of all. The ledger has energy by model, and facts have it by GPU: so energy
-- is the ledger's, and a GPU counts for each model that its workload served on its hardware in an hour. Its covered and busy
-- time are divided by the models' energy.
WITH
    facts AS
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(g.window_start), 3600000) AS hour_no,
            $cluster{g.cluster} AS cluster, g.workload AS workload, g.hardware AS hardware,
            groupUniqArray(if(NOT match(g.gpu_uuid, '[^0-9]'), concat($cluster{g.cluster}, '/', g.node, '/', g.gpu_uuid), toString(g.gpu_uuid))) AS gpus,
            sum(g.covered_ms) AS covered_ms,
            sumIf(g.busy_ms, g.busy_ms >= 0) AS busy_ms,
            sumIf(g.covered_ms, g.busy_ms >= 0) AS known_ms
        FROM gpu_energy AS g FINAL
        LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
            ON m.log_id = g.log_id AND m.log_partition = g.log_partition
        WHERE g.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND g.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND $cluster_in{g.cluster}
          AND (m.log_id = '' OR g.window_start < m.final_end)
        GROUP BY hour_no, cluster, workload, hardware
    ),
    charged AS
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(g.$time), 3600000) AS hour_no, $groups
            $cluster{g.cluster} AS cluster, g.workload AS workload, g.hardware AS hardware, g.model AS model,
            sum(toInt128(g.active_uj + g.idle_uj + g.unallocated_uj)) AS energy_uj,
            sum(toInt128(g.idle_uj)) AS idle_uj, sum(toInt128(g.unallocated_uj)) AS unallocated_uj, max(g.method) AS method
        FROM $table AS g FINAL
        WHERE g.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND g.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND $only
          AND g.hardware != ''
          AND $cluster_in{g.cluster}
        GROUP BY ALL
    ),
    shares AS
    (
        SELECT
            *, sum(toInt128(energy_uj)) OVER (PARTITION BY hour_no, cluster, workload, hardware) AS all_uj,
            if(all_uj = 0, 0, toFloat64(energy_uj) / toFloat64(all_uj)) AS share
        FROM charged
    )
SELECT
    [$keys]::Array(String) AS keys, GROUPING(keys) AS is_total,
    uniqExactArrayIf(f.gpus, $part{h.hardware} = 'gpu') AS gpus,
    sum(h.energy_uj) AS energy_uj,
    sum(f.covered_ms * h.share) AS covered_ms,
    sumIf(f.covered_ms * h.share, $part{h.hardware} = 'gpu') AS gpu_ms,
    if(sum(f.known_ms * h.share) > 0, sum(f.busy_ms * h.share) / sum(f.known_ms * h.share), NULL) AS utilisation_ratio,
    sum(h.energy_uj) AS known_uj,
    sum(h.idle_uj) AS idle_uj,
    sum(h.unallocated_uj) AS unallocated_uj,
    max(h.method) AS method,
    max(ifNull(c.simulated, 0)) AS simulated
FROM shares AS h
LEFT JOIN facts AS f
    ON f.hour_no = h.hour_no AND f.cluster = h.cluster AND f.workload = h.workload AND f.hardware = h.hardware
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = h.cluster
GROUP BY GROUPING SETS ((keys), ())
ORDER BY is_total DESC, keys
LIMIT {limit:UInt32}
