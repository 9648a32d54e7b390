-- Access: operator
-- All rows of tenants, by name and start.
SELECT
    tenant, team, cost_centre, simulated, toUnixTimestamp64Milli(valid_from) AS valid_from_ms
FROM tenants FINAL
ORDER BY tenant, valid_from
