-- Energy whose money or grams are unknown, by month, cluster and what lacks.
SELECT
    toStartOfMonth(e.hour) AS month, e.cluster AS cluster, e.missing AS missing,
    toDecimal128(round(sum(e.energy_kwh), 6), 6) AS kwh, uniqExact(e.hour) AS hours
FROM energy_hour AS e
WHERE e.missing != '' AND e.energy_uj != 0
GROUP BY month, cluster, missing
ORDER BY month, cluster, missing
