-- Access: tenant
-- Sessions with requests that ended in a period, or usage that counts in it. A request's windows start less than 7 h
-- before its end (ledger/requests.sql).
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    s.tenant AS tenant, s.session_id AS session_id, min(s.first) AS first, max(s.last) AS last,
    sum(s.requests) AS requests, sum(s.failures) AS failures, $tokens{sum(s.@) AS @},
    sum(s.energy_uj) AS energy_uj, sum(s.unmetered_tokens) AS unmetered_tokens, sum(s.usage_rows) AS usage_rows, max(s.simulated) AS simulated
FROM
(
    SELECT
        toString(r.tenant) AS tenant, r.session_id AS session_id, toUnixTimestamp64Milli(min(r.t_start)) AS first,
        toUnixTimestamp64Milli(max(r.t_end)) AS last,
        uniqExact(r.cluster, r.workload, r.model, r.request_id, r.t_start, r.t_end) AS requests,
        uniqExactIf((r.cluster, r.workload, r.model, r.request_id, r.t_start, r.t_end), r.status != 'ok') AS failures,
        $tokens{sum(r.@) AS @}, sum(toInt128(r.active_uj) + r.idle_uj) AS energy_uj,
        sumIf(r.prompt_tokens + r.completion_tokens, (r.window_start, r.tenant, r.cluster, r.workload, r.model) IN
        (
            SELECT window_start, tenant, cluster, workload, model
            FROM ledger FINAL
            WHERE window_start > fromUnixTimestamp64Milli({start_ms:Int64} - 25200000, 'UTC')
              AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
              AND final = 1 AND method = 3 AND (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})
        )) AS unmetered_tokens,
        0 AS usage_rows, max(has(simulated_clusters, toString(r.cluster))) AS simulated
    FROM request_energy AS r FINAL
    WHERE r.window_start > fromUnixTimestamp64Milli({start_ms:Int64} - 25200000, 'UTC')
      AND r.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND r.t_end >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND r.t_end < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND r.session_id != '' AND (empty({tenants:Array(String)}) OR r.tenant IN {tenants:Array(String)})
    GROUP BY r.tenant, r.session_id
    UNION ALL
    SELECT
        toString(u.tenant), u.session_id, toUnixTimestamp64Milli(min(u.t0)), toUnixTimestamp64Milli(max(u.t1)),
        0, 0, $tokens{0}, toInt128(0), toInt64(0), count(), max(has(simulated_clusters, toString(u.cluster)))
    FROM usage AS u FINAL
    WHERE u.at >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND u.at < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND u.session_id != '' AND (empty({tenants:Array(String)}) OR u.tenant IN {tenants:Array(String)})
    GROUP BY u.tenant, u.session_id
) AS s
GROUP BY tenant, session_id
HAVING {first:UInt8} = 1 OR (tenant, session_id) > ({after_tenant:String}, {after_session:String})
ORDER BY tenant, session_id
LIMIT {limit:UInt32}
