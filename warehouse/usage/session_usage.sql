-- Access: tenant
-- Other meters of a session, by trace, step, meter and unit: rows of the session, and rows of its traces that name no
-- session.
WITH (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters
SELECT
    trace_id, step, toString(meter) AS of_meter, toString(unit) AS of_unit,
    sum(toDecimal256(quantity, 12)) AS total, count() AS rows,
    toUnixTimestamp64Milli(min(t0)) AS first, toUnixTimestamp64Milli(max(t1)) AS last,
    max(has(simulated_clusters, toString(cluster))) AS simulated
FROM usage FINAL
WHERE tenant = {tenant:String}
  AND (session_id = {session_id:String} OR (trace_id IN {traces:Array(String)} AND session_id = ''))
GROUP BY trace_id, step, of_meter, of_unit
ORDER BY trace_id, step, of_meter, of_unit
LIMIT {limit:UInt32}
