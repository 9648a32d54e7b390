-- Access: tenant
-- A tenant's ledger rows of one window, each with the total that it is a part of: all tenants' work and energy in that
-- window, workload and hardware type. A host's energy is split by work that counts at the GPUs beside it: there the
-- share is of the work on all hardware types.
SELECT *
FROM
(
    SELECT
        toUnixTimestamp64Milli(l.window_start) AS window_start, l.window_ms AS window_ms, l.tenant AS tenant,
        l.cluster AS cluster, l.workload AS workload, l.model AS model, l.hardware AS hardware, $dimensions{l.@ AS @},
        l.active_uj AS active_uj, l.idle_uj AS idle_uj, l.unallocated_uj AS unallocated_uj,
        $tokens{l.@ AS @},
        l.work AS work, l.requests AS requests, l.failures AS failures, l.method AS method,
        l.weights_version AS weights_version, l.floor_version AS floor_version, l.revision AS revision,
        l.final AS final, ifNull(c.simulated, 0) AS simulated,
        sum(l.work) OVER whole AS work_here,
        if(work_here > 0, l.work, sum(l.work) OVER (PARTITION BY l.cluster, l.workload, l.tenant, l.model, $dimensions{l.@})) AS share_work,
        if(work_here > 0, work_here, sum(l.work) OVER (PARTITION BY l.cluster, l.workload)) AS whole_work,
        sum(l.active_uj) OVER whole AS whole_active_uj,
        sum(l.idle_uj) OVER whole AS whole_idle_uj,
        sum(l.active_uj + l.idle_uj + l.unallocated_uj) OVER whole AS whole_uj
    FROM ledger AS l FINAL
    LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = l.cluster
    WHERE l.window_start = fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC') AND l.final = 1
    WINDOW whole AS (PARTITION BY l.cluster, l.workload, l.hardware)
)
WHERE tenant = {tenant:String}
ORDER BY cluster, workload, model, hardware, $dimensions{@}
LIMIT {limit:UInt32}
