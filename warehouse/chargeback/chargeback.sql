-- Access: tenant
-- Energy, tokens and money of each group, after the total of all groups (`is_total` = 1, the first row).
--
-- This is where a row of a bill becomes money (warehouse/chargeback/__init__.py has the rule).
--
-- Energy is summed to (group, cluster, span) first. A span is a time without a price change: it begins at the period's
-- start, or at the millisecond at which some price begins or ends. So a few thousand sums are joined with prices, not
-- millions of rows. A cluster's own prices go before those of '*'. A window's energy is one sum: where a price changes
-- inside a window (of an hour, say, in a simulated past), money is unknown, and `missing_prices` says why. These are
-- `divided`: kinds by cluster and span, from divided_windows.sql. Where prices change inside days, rows of days and hours
-- come with their money, from their energy by slot (slots.py); such energy is not in `plain_uj`.
-- Money is exact until its one rounding: energy_uj x nano(pue) x nano(price) is an integer (Int256), a column
-- `..._units`, whose unit is 1 / (3.6e12 uJ/kWh x 1e9 x 1e9). `cost_micro` and `gco2_micro` are millionths, rounded by
-- largest remainder over the whole answer, so that its rows sum to its rounded total exactly.
--
-- The charges `c` are rows of the ledger, or of its days or hours (warehouse/chargeback/rollups.py). With tokens by kind,
-- they are windows (kind_rows.sql), and what begins with `kind_` is of those (warehouse/chargeback/token_kinds.py).
--
-- Few levels and few joins, on purpose: for a month's bill, the engine spends half of its time on analysing this text.
WITH
    toInt256('3600000000000000000000000') AS unit,
    $spans,
    $cuts,
    (SELECT groupArray(toString(cluster)) FROM clusters FINAL WHERE simulated = 1) AS simulated_clusters,
    metered AS
    (
        SELECT
            $groups,
            $span AS span,
            sum(toInt128(c.active_uj)) AS active_uj,
            sum(toInt128(c.idle_uj)) AS idle_uj,
            sum(toInt128(c.unallocated_uj)) AS unallocated_uj,
            active_uj + idle_uj + unallocated_uj AS energy_uj,
            -- The parts of contracts/boundary.py, in a form that is cheap over millions of rows.
            sumIf(toInt128(c.active_uj + c.idle_uj + c.unallocated_uj), c.hardware = 'host') AS host_uj,
            sumIf(toInt128(c.active_uj + c.idle_uj + c.unallocated_uj), startsWith(c.hardware, 'wall ')) AS wall_uj,
            $tokens{sum(c.@) AS @},
            sum(c.requests) AS requests,
            sum(c.failures) AS failures,
            max(c.method) AS method,
            -- Tokens without measured energy (method 3) are in rows of their own, in every table: their hardware is ''.
            max(c.method != 3) AS is_metered,
            sumIf(c.prompt_tokens + c.completion_tokens, c.method = 3) AS unmetered_tokens,
            sumIf(c.completion_tokens, c.method = 3) AS unmetered_completion_tokens,
            sumIf(c.requests, c.method = 3) AS unmetered_requests
            $kind_sums
            $slot_sums
        FROM
        (
$charges
        ) AS c
        GROUP BY ALL
    ),
    priced AS
    (
        SELECT
            scope, changes[number] AS span,
            argMaxIf(nano_value, (cluster != '*', valid_from), kind = 'energy') AS tariff,
            argMaxIf(currency, (cluster != '*', valid_from), kind = 'energy') AS currency,
            argMaxIf(nano_value, (cluster != '*', valid_from), kind = 'pue') AS pue,
            argMaxIf(nano_value, (cluster != '*', valid_from), kind = 'carbon') AS carbon,
            countIf(kind = 'energy') AS tariffs, countIf(kind = 'pue') AS pues, countIf(kind = 'carbon') AS carbons
        FROM book
        ARRAY JOIN
            if(cluster = '*', scopes, [toString(cluster)]) AS scope
        ARRAY JOIN
            range(indexOfAssumeSorted(changes, from_ms), indexOfAssumeSorted(changes, to_ms)) AS number
        GROUP BY scope, number
    ),
    grouped AS
    (
        WITH
            $lacks,
            toString(h.of_cluster) AS cluster,
            $divided AS divided,
            h.$plain_uj * p.pue AS pue_nano_uj
        SELECT
            [$keys]::Array(String) AS keys, GROUPING(keys) AS is_total,
            sum(h.active_uj) AS active_uj, sum(h.idle_uj) AS idle_uj, sum(h.unallocated_uj) AS unallocated_uj,
            sum(h.host_uj) AS host_uj, sum(h.wall_uj) AS wall_uj,
            $tokens{sum(h.@) AS @}, sum(h.requests) AS requests, sum(h.failures) AS failures,
            sum(h.unmetered_tokens) AS unmetered_tokens, sum(h.unmetered_requests) AS unmetered_requests,
            sum(h.unmetered_completion_tokens) AS unmetered_completion_tokens,
            max(h.method) AS method, max(has(simulated_clusters, cluster)) AS simulated,
            $currencies AS currencies,
            arraySort(arrayConcat(
                groupUniqArrayIf(('energy', cluster), no_tariff),
                groupUniqArrayIf(('pue', cluster), no_pue),
                groupUniqArrayIf(('carbon', cluster), no_carbon),
                groupUniqArrayArray(arrayMap(kind -> (concat(kind, ' within windows'), cluster), divided)))) AS missing_prices,
            -- Where nothing was measured, money is unknown and not 0: tokens without energy, or a total of no row at all.
            max(h.is_metered) = 1 AS energy_known,
            energy_known AND max(no_pue OR has(divided, 'pue')) = 0 AS facility_known,
            facility_known AND max(no_tariff OR has(divided, 'energy')) = 0 AND length(currencies) <= 1 AS cost_known,
            facility_known AND max(no_carbon OR has(divided, 'carbon')) = 0 AS gco2_known,
            sum(pue_nano_uj$slot_facility) AS facility_nano_uj,
            sum(pue_nano_uj * p.tariff$slot_cost) AS cost_units,
            sum(pue_nano_uj * p.carbon$slot_gco2) AS gco2_units
            $kind_units
        FROM metered AS h
        LEFT ANY JOIN priced AS p ON p.scope = if(has(scopes, toString(h.of_cluster)), toString(h.of_cluster), '*') AND p.span = h.span
        $account
        GROUP BY GROUPING SETS ((keys), ())
    ),
    arrayMin(currencies) AS currency,
    positiveModulo(cost_units, unit) AS cost_remainder,
    positiveModulo(gco2_units, unit) AS gco2_remainder,
    row_number() OVER (PARTITION BY is_total, cost_known, currency ORDER BY cost_remainder DESC, keys) AS cost_rank,
    row_number() OVER (PARTITION BY is_total, gco2_known ORDER BY gco2_remainder DESC, keys) AS gco2_rank,
    -- Number of rows that are rounded up: the sum of all remainders, rounded half up.
    intDiv(2 * sum(cost_remainder) OVER (PARTITION BY is_total, cost_known, currency) + unit, 2 * unit) AS cost_round_ups,
    intDiv(2 * sum(gco2_remainder) OVER (PARTITION BY is_total, gco2_known) + unit, 2 * unit) AS gco2_round_ups
SELECT
    is_total, keys, active_uj, idle_uj, unallocated_uj, host_uj, wall_uj, $tokens{@}, requests, failures,
    unmetered_tokens, unmetered_completion_tokens, unmetered_requests, energy_known,
    method, simulated, currency, missing_prices, length(currencies) > 1 AS mixed_currencies,
    if(facility_known, facility_nano_uj, NULL) AS facility_nano_uj,
    if(cost_known, intDiv(cost_units - cost_remainder, unit) + (cost_rank <= cost_round_ups), NULL) AS cost_micro,
    if(gco2_known, intDiv(gco2_units - gco2_remainder, unit) + (gco2_rank <= gco2_round_ups), NULL) AS gco2_micro
    $kind_columns
FROM grouped
QUALIFY is_total = 1 OR {after:Array(String)} = [] OR keys > {after:Array(String)}
ORDER BY is_total DESC, keys
LIMIT {limit:UInt32}
