-- Access: tenant
-- Measurements of each GPU in one window for one workload: the evidence behind the ledger's rows.
-- Tenants see them if they have a row in that window, without another tenant's name as owner.
SELECT
    toUnixTimestamp64Milli(g.window_start) AS window_start, g.window_ms AS window_ms, g.cluster AS cluster,
    g.workload AS workload, g.node AS node, g.gpu_uuid AS gpu_uuid, g.hardware AS hardware,
    if(empty({tenants:Array(String)}) OR g.owner IN {tenants:Array(String)}, g.owner, '') AS owner,
    g.energy_uj AS energy_uj, g.covered_ms AS covered_ms, g.busy_ms AS busy_ms, g.method AS method, g.late_id AS late_id,
    ifNull(c.simulated, 0) AS simulated
FROM gpu_energy AS g FINAL
LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = g.cluster
WHERE g.window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')
  AND g.cluster = {cluster:String}
  AND g.workload = {workload:String}
  AND (empty({tenants:Array(String)}) OR (g.window_start, g.cluster, g.workload) IN
  (
      SELECT window_start, cluster, workload
      FROM ledger FINAL
      WHERE tenant IN {tenants:Array(String)} AND window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')
  ))
  AND ({first:UInt8} = 1 OR (g.node, g.gpu_uuid, g.late_id) > ({after_node:String}, {after_gpu:String}, {after_late:UInt64}))
ORDER BY g.node, g.gpu_uuid, g.late_id
LIMIT {limit:UInt32}
