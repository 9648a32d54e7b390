-- Access: tenant
-- Totals of closings (`PERIOD STEP`) by currency and side, and how many of their lines have no amount.
SELECT
    period, toString(currency) AS currency, toString(side) AS side,
    sum(toDecimal256(ifNull(amount, 0), 3)) AS total, countIf(amount IS NULL) AS open_lines, count() AS lines
FROM closed_lines AS b FINAL
WHERE concat(b.period, ' ', toString(b.step)) IN {closings:Array(String)}
  AND (empty({tenants:Array(String)}) OR b.tenant IN {tenants:Array(String)})
GROUP BY period, currency, side
ORDER BY period, currency, side
