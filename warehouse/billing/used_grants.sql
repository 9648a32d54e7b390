-- Access: operator
-- Money that closings (`PERIOD STEP`) took of credits and commitments, by name and tenant.
SELECT name, toString(tenant) AS tenant, -sum(toDecimal256(ifNull(amount, 0), 3)) AS amount
FROM closed_lines AS b FINAL
WHERE b.category = 'credit' AND concat(b.period, ' ', toString(b.step)) IN {closings:Array(String)}
GROUP BY name, tenant
ORDER BY name, tenant
