-- What was measured for one workload and hardware in one window, and on how many GPUs.
SELECT
    g.hardware AS hardware,
    uniqExact(g.node, g.gpu_uuid) AS gpus,
    sum(g.energy_uj) AS energy_uj,
    sum(g.covered_ms) AS covered_ms
FROM gpu_energy AS g FINAL
WHERE g.window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')
  AND g.cluster = {cluster:String} AND g.workload = {workload:String}
GROUP BY hardware
