-- Access: internal
-- Keeps the tenants' teams and cost centres of today for one step of a period.
INSERT INTO closed_tenants (period, step, tenant, valid_from, team, cost_centre)
SELECT {closed_period:String}, {closed_step:UInt32}, tenant, valid_from, team, cost_centre
FROM tenants FINAL
