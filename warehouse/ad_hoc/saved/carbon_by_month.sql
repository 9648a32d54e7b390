-- Carbon of each cluster by month in kg CO2eq, with the mean intensity of its facility energy in g/kWh.
SELECT
    toStartOfMonth(e.hour) AS month, e.cluster AS cluster,
    if(countIf(isNull(e.gco2)) > 0, NULL, toDecimal128(round(sum(e.gco2) / 1000, 3), 3)) AS kg_co2eq,
    if(countIf(isNull(e.gco2)) > 0, NULL, round(toFloat64(sum(e.gco2)) / nullIf(toFloat64(sum(e.facility_kwh)), 0), 1)) AS g_per_kwh,
    max(e.simulated) AS simulated
FROM energy_hour AS e
GROUP BY month, cluster
ORDER BY month, cluster
