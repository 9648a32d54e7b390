-- Access: tenant
-- Measurements of each GPU in one window for some workloads in which the tenant has a row: the first `shown` of each
-- hardware type. Another tenant's name as owner is left out.
SELECT
    toUnixTimestamp64Milli(g.window_start) AS window_start, g.window_ms AS window_ms, g.cluster AS cluster,
    g.workload AS workload, g.node AS node, g.gpu_uuid AS gpu_uuid, g.hardware AS hardware,
    if(g.owner = {tenant:String}, g.owner, '') AS owner,
    g.energy_uj AS energy_uj, g.covered_ms AS covered_ms, g.busy_ms AS busy_ms, g.method AS method, g.late_id AS late_id,
    ifNull(c.simulated, 0) AS simulated
FROM gpu_energy AS g FINAL
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = g.cluster
WHERE g.window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')
  AND g.cluster IN {clusters:Array(String)} AND g.workload IN {workloads:Array(String)}
  AND (g.cluster, g.workload) IN (SELECT arrayJoin(arrayZip({clusters:Array(String)}, {workloads:Array(String)})))
  AND (g.cluster, g.workload) IN
      (SELECT cluster, workload FROM ledger FINAL
       WHERE tenant = {tenant:String} AND window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC'))
ORDER BY g.cluster, g.workload, g.hardware, g.node, g.gpu_uuid, g.late_id
LIMIT {shown:UInt32} BY cluster, workload, hardware
