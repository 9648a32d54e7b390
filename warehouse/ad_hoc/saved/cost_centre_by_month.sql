-- Money of each cost centre by month, as a bill books it: by where a tenant was at that time.
SELECT
    toStartOfMonth(u.hour) AS month, u.cost_centre AS cost_centre, u.currency AS currency,
    if(countIf(isNull(u.cost) AND u.missing != 'measured energy') > 0, NULL, toDecimal128(round(sum(u.cost), 6), 6)) AS money,
    toDecimal128(round(sum(u.energy_kwh), 3), 3) AS kwh
FROM usage_hour AS u
GROUP BY month, cost_centre, currency
ORDER BY month, cost_centre, currency
