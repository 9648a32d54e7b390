-- Access: tenant
-- Names in a column of the caller's rows, in the ledger or in metered usage, at any time. At most `limit`.
SELECT DISTINCT name
FROM
(
    SELECT DISTINCT toString($column) AS name FROM ledger
    WHERE (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})

    UNION ALL

    SELECT DISTINCT toString($column) FROM ledger_hour
    WHERE (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})

    UNION ALL

    SELECT DISTINCT toString($usage_column) FROM usage
    WHERE (empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)})
)
WHERE name != ''
ORDER BY name
LIMIT {limit:UInt32}
