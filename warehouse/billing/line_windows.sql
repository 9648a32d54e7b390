-- Access: tenant
-- Windows behind a line of a bill, the largest first: a tenant's final rows of one place, with the number and the sums of
-- all of them.
SELECT
    *, count() OVER () AS windows, sum(toInt128(energy_uj)) OVER () AS all_energy_uj
FROM
(
    SELECT
        toUnixTimestamp64Milli(l.window_start) AS window_start, max(l.window_ms) AS window_ms,
        sum(toInt128(l.active_uj) + toInt128(l.idle_uj) + toInt128(l.unallocated_uj)) AS energy_uj,
        $tokens{sum(l.@) AS @}, sum(l.requests) AS requests, max(l.method) AS method
    FROM ledger AS l FINAL
    WHERE l.final = 1
      AND l.window_start >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
      AND l.window_start < fromUnixTimestamp64Milli({until_ms:Int64}, 'UTC')
      AND l.tenant IN {tenants:Array(String)}
      AND $cluster_in{l.cluster}
      AND l.workload = {of_workload:String} AND l.model = {of_model:String}
      AND ({of_hardware:String} = '' OR l.hardware = {of_hardware:String})
    GROUP BY l.window_start
)
ORDER BY energy_uj DESC, window_start
LIMIT {limit:UInt32}
