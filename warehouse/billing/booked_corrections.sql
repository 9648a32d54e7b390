-- Access: tenant
-- Lines of closings (`PERIOD STEP`) that mend lines of earlier periods.
SELECT
    period, line_id, toString(category) AS category, name, toString(meter) AS meter, toString(unit) AS unit, quantity, price, per,
    amount, exact_amount, toString(currency) AS currency, toString(side) AS side,
    toUnixTimestamp64Milli(line_start) AS from_ms, toUnixTimestamp64Milli(line_end) AS to_ms,
    toString(tenant) AS tenant, toString(team) AS team, toString(cost_centre) AS cost_centre,
    toString(workload) AS workload, toString(workload_type) AS workload_type, toString(model) AS model,
    toString(hardware) AS hardware, toString(sla) AS sla, toString(region) AS region, toString(provider) AS provider,
    toString(cluster) AS cluster, energy_uj, gco2, steps, corrects
FROM closed_lines AS b FINAL
WHERE b.corrects != '' AND concat(b.period, ' ', toString(b.step)) IN {closings:Array(String)}
  AND (empty({tenants:Array(String)}) OR b.tenant IN {tenants:Array(String)})
ORDER BY b.period, b.line
