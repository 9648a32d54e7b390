-- The 20 workloads that drew most energy without work in the ledger's newest 30 days, and what that cost.
WITH (SELECT max(hour) FROM energy_hour) AS newest
SELECT
    e.cluster AS cluster, e.workload AS workload, e.currency AS currency,
    round(toFloat64(sum(toInt128(e.idle_uj))) / 3.6e12, 3) AS idle_kwh,
    round(100 * toFloat64(sum(toInt128(e.idle_uj))) / nullIf(toFloat64(sum(toInt128(e.energy_uj))), 0), 1) AS idle_percent,
    if(countIf(isNull(e.cost)) > 0, NULL,
        round(sum(toFloat64(e.cost) * toFloat64(toInt128(e.idle_uj)) / toFloat64(greatest(e.energy_uj, 1))), 2)) AS idle_money
FROM energy_hour AS e
WHERE e.hour > newest - INTERVAL 30 DAY
GROUP BY cluster, workload, currency
HAVING idle_kwh > 0
ORDER BY idle_kwh DESC, cluster, workload
LIMIT 20
