-- Access: internal
-- All tenants with their team and cost centre, by name.
SELECT
    tenant, team, cost_centre, simulated > 0 AS simulated
FROM tenants FINAL
ORDER BY tenant
