-- Access: tenant
-- Energy measured in one window for some workloads in which the tenant has a row, by hardware type, and the number of
-- devices: GPUs, hosts or meters at the wall.
SELECT
    g.cluster AS cluster, g.workload AS workload, g.hardware AS hardware,
    uniqExact(g.node, g.gpu_uuid) AS devices,
    if($part{g.hardware} = 'gpu', devices, 0) AS gpus,
    sum(g.energy_uj) AS energy_uj,
    sum(g.covered_ms) AS covered_ms
FROM gpu_energy AS g FINAL
WHERE g.window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')
  AND g.cluster IN {clusters:Array(String)} AND g.workload IN {workloads:Array(String)}
  AND (g.cluster, g.workload) IN (SELECT arrayJoin(arrayZip({clusters:Array(String)}, {workloads:Array(String)})))
  AND (g.cluster, g.workload) IN
      (SELECT cluster, workload FROM ledger FINAL
       WHERE tenant = {tenant:String} AND window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC'))
GROUP BY cluster, workload, hardware
