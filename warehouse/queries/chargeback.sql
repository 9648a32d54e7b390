-- What each group used and what it costs.
--
-- Energy is summed to (hour, cluster, group) first, then meets the prices valid at that hour's start: a cluster's own
-- before '*'. Money is exact until its one rounding: energy_uj x nano(pue) x nano(price) is an integer (Int256), the
-- unit of which is 1 / (3.6e12 uJ/kWh x 1e9 x 1e9). `cost_micro` and `gco2_micro` are millionths, rounded by largest
-- remainder over the whole answer, so that its rows sum to its rounded total exactly.
WITH
    (n, d) -> intDiv(n - positiveModulo(n, d), d) AS floor_div,
    -- Prices are laid out by the hour only where there is energy, however long the period: the parts' own extremes.
    (SELECT intDiv(toUnixTimestamp64Milli(min($time)), 3600000) FROM $facts) AS oldest_hour,
    (SELECT intDiv(toUnixTimestamp64Milli(max($time)), 3600000) FROM $facts) AS newest_hour,
    greatest(intDiv({start_ms:Int64}, 3600000), oldest_hour) AS first_hour,
    least(intDiv({end_ms:Int64} - 1, 3600000), newest_hour) AS last_hour,
    hourly AS
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(f.$time), 3600000) AS hour_no,
            f.cluster AS cluster,
            [$keys]::Array(String) AS keys,
            sum(toInt128(f.active_uj)) AS active_uj,
            sum(toInt128(f.idle_uj)) AS idle_uj,
            sum(toInt128(f.unallocated_uj)) AS unallocated_uj,
            sum(f.prompt_tokens) AS prompt_tokens,
            sum(f.cached_tokens) AS cached_tokens,
            sum(f.completion_tokens) AS completion_tokens,
            sum(f.requests) AS requests,
            sum(f.failures) AS failures,
            max(f.method) AS method
        FROM $facts AS f FINAL
        LEFT ANY JOIN (SELECT tenant, team, cost_centre FROM tenants FINAL) AS who ON f.tenant = who.tenant
        WHERE f.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND f.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND $only
          AND ({tenant:String} = '' OR f.tenant = {tenant:String})
          AND ({cluster:String} = '' OR f.cluster = {cluster:String})
        GROUP BY hour_no, cluster, keys
    ),
    priced AS
    (
        SELECT
            cluster,
            hour_no,
            argMaxIf(nano, valid_from, kind = 'energy') AS tariff,
            argMaxIf(currency, valid_from, kind = 'energy') AS currency,
            argMaxIf(nano, valid_from, kind = 'pue') AS pue,
            argMaxIf(nano, valid_from, kind = 'carbon') AS carbon,
            countIf(kind = 'energy') > 0 AS has_tariff,
            countIf(kind = 'pue') > 0 AS has_pue,
            countIf(kind = 'carbon') > 0 AS has_carbon
        FROM
        (
            SELECT
                kind, cluster, valid_from, currency,
                toInt256(toDecimal256(value, 9) * 1000000000) AS nano,
                arrayJoin(range(
                    greatest(intDiv(toUnixTimestamp64Milli(valid_from) + 3599999, 3600000), first_hour),
                    least(intDiv(toUnixTimestamp64Milli(valid_to) + 3599999, 3600000), last_hour + 1)
                )) AS hour_no
            FROM prices FINAL
            WHERE valid_to > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') - INTERVAL 1 HOUR
              AND valid_from < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        )
        GROUP BY cluster, hour_no
    ),
    costed AS
    (
        SELECT
            h.cluster AS cluster, h.keys AS keys, h.active_uj AS active_uj, h.idle_uj AS idle_uj, h.unallocated_uj AS unallocated_uj,
            h.prompt_tokens AS prompt_tokens, h.cached_tokens AS cached_tokens, h.completion_tokens AS completion_tokens,
            h.requests AS requests, h.failures AS failures, h.method AS method,
            h.active_uj + h.idle_uj + h.unallocated_uj AS energy_uj,
            if(own.has_tariff, own.tariff, other.tariff) AS tariff,
            if(own.has_tariff, own.currency, other.currency) AS currency,
            if(own.has_pue, own.pue, other.pue) AS pue,
            if(own.has_carbon, own.carbon, other.carbon) AS carbon,
            energy_uj != 0 AND NOT (own.has_tariff OR other.has_tariff) AS no_tariff,
            energy_uj != 0 AND NOT (own.has_pue OR other.has_pue) AS no_pue,
            energy_uj != 0 AND NOT (own.has_carbon OR other.has_carbon) AS no_carbon,
            ifNull(c.simulated, 0) AS simulated
        FROM hourly AS h
        LEFT JOIN (SELECT * FROM priced WHERE cluster != '*') AS own ON own.cluster = h.cluster AND own.hour_no = h.hour_no
        LEFT JOIN (SELECT * FROM priced WHERE cluster = '*') AS other ON other.hour_no = h.hour_no
        LEFT ANY JOIN (SELECT cluster, simulated FROM clusters FINAL) AS c ON c.cluster = h.cluster
    ),
    grouped AS
    (
        SELECT
            keys,
            sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj, sum(unallocated_uj) AS unallocated_uj,
            sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
            sum(completion_tokens) AS completion_tokens, sum(requests) AS requests, sum(failures) AS failures,
            max(method) AS method, max(simulated) AS simulated,
            arraySort(groupUniqArrayIf(currency, currency != '')) AS currencies,
            arraySort(arrayConcat(
                groupUniqArrayIf(('energy', cluster), no_tariff),
                groupUniqArrayIf(('pue', cluster), no_pue),
                groupUniqArrayIf(('carbon', cluster), no_carbon))) AS missing_prices,
            max(no_pue) = 0 AS facility_known,
            max(no_tariff OR no_pue) = 0 AND uniqExactIf(currency, currency != '') <= 1 AS cost_known,
            max(no_carbon OR no_pue) = 0 AS gco2_known,
            sum(energy_uj * pue) AS facility_parts,
            sum(energy_uj * pue * tariff) AS cost_parts,
            sum(energy_uj * pue * carbon) AS gco2_parts
        FROM costed
        GROUP BY keys
    ),
    rounded AS
    (
        SELECT
            *,
            currencies[1] AS currency,
            toInt256('3600000000000000000000000') AS unit,
            floor_div(cost_parts, unit) AS cost_floor,
            floor_div(gco2_parts, unit) AS gco2_floor,
            sum(cost_parts) OVER (PARTITION BY cost_known, currency) AS cost_total,
            sum(cost_floor) OVER (PARTITION BY cost_known, currency) AS cost_floors,
            sum(gco2_parts) OVER (PARTITION BY gco2_known) AS gco2_total,
            sum(gco2_floor) OVER (PARTITION BY gco2_known) AS gco2_floors,
            row_number() OVER (PARTITION BY cost_known, currency ORDER BY positiveModulo(cost_parts, unit) DESC, keys) AS cost_rank,
            row_number() OVER (PARTITION BY gco2_known ORDER BY positiveModulo(gco2_parts, unit) DESC, keys) AS gco2_rank
        FROM grouped
    )
SELECT
    keys, active_uj, idle_uj, unallocated_uj, prompt_tokens, cached_tokens, completion_tokens, requests, failures,
    method, simulated, currency, missing_prices, length(currencies) > 1 AS mixed_currencies,
    if(facility_known, facility_parts, NULL) AS facility_parts,
    if(cost_known, cost_floor + (cost_rank <= floor_div(2 * cost_total + unit, 2 * unit) - cost_floors), NULL) AS cost_micro,
    if(gco2_known, gco2_floor + (gco2_rank <= floor_div(2 * gco2_total + unit, 2 * unit) - gco2_floors), NULL) AS gco2_micro
FROM rounded
WHERE {after:Array(String)} = [] OR keys > {after:Array(String)}
ORDER BY keys
LIMIT {limit:UInt32}
