-- Joules of a single request by model: the median, the 95th percentile, and the mean, of the requests that are stored.
SELECT
    model, count() AS requests,
    round(quantileExact(0.5)(toFloat64(r.energy_uj) / 1e6), 3) AS p50_joules,
    round(quantileExact(0.95)(toFloat64(r.energy_uj) / 1e6), 3) AS p95_joules,
    round(avg(toFloat64(r.energy_uj) / 1e6), 3) AS mean_joules
FROM requests_final AS r
WHERE r.energy_uj > 0
GROUP BY model
ORDER BY requests DESC, model
