-- Requests that failed by tenant and model: how many of those that the ledger counts, and the energy of those stored singly.
SELECT
    t.tenant AS tenant, t.model AS model, t.requests AS requests, t.failures AS failures,
    round(100 * t.failures / nullIf(t.requests, 0), 2) AS failed_percent,
    f.stored AS stored_failures, if(f.stored > 0, round(toFloat64(f.uj) / 1e6, 3), NULL) AS stored_failures_joules
FROM
(
    SELECT tenant, model, sum(h.requests) AS requests, sum(h.failures) AS failures
    FROM tokens_hour AS h
    GROUP BY tenant, model
) AS t
LEFT JOIN
(
    SELECT tenant, model, count() AS stored, sum(toInt128(r.energy_uj)) AS uj
    FROM requests_final AS r
    WHERE r.status != 'ok'
    GROUP BY tenant, model
) AS f ON f.tenant = t.tenant AND f.model = t.model
WHERE t.failures > 0
ORDER BY t.failures DESC, tenant, model
