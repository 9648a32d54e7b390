-- Access: internal
-- The final rows of some clusters in a period, in key order, without provenance, version and time of writing.
SELECT
    toUnixTimestamp64Milli(window_start) AS start_ms, window_ms, cluster, workload, hardware, model, tenant, $dimensions{@},
    active_uj, idle_uj, unallocated_uj, $tokens{@}, work, requests, failures,
    method, weights_version, floor_version
FROM ledger FINAL
WHERE final = 1
    AND cluster IN {clusters:Array(String)}
    AND window_start >= fromUnixTimestamp64Milli({start_ms:Int64})
    AND window_start < fromUnixTimestamp64Milli({end_ms:Int64})
ORDER BY start_ms, cluster, workload, hardware, tenant, model, $dimensions{@}
