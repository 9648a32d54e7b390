-- Access: tenant
-- Tenants that have a session of this name, and the traces of each.
SELECT tenant, groupUniqArrayIf({max_traces:UInt32})(trace_id, trace_id != '') AS traces
FROM
(
    SELECT toString(tenant) AS tenant, trace_id
    FROM request_energy FINAL
    WHERE session_id = {session_id:String} AND (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})
    UNION ALL
    SELECT toString(tenant), trace_id
    FROM usage FINAL
    WHERE session_id = {session_id:String} AND (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})
)
GROUP BY tenant
ORDER BY tenant
LIMIT 3
