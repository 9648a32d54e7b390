-- Views for analysts: no FINAL, no versions, no units to know. Energy is Int128 and Decimal, so that no sum overflows;
-- money and grams are exact to 18 decimals, and NULL where they are unknown, with the reason in `missing`.
-- docs/data-dictionary.md is made of the comments here.

-- The price that a cluster's energy has over time: its own before that of '*'. One row from each time at which some price
-- of the cluster, or of '*', begins or ends. Clusters without any price of their own have the rows of '*'.
CREATE OR REPLACE VIEW price_steps
(
    cluster      String COMMENT 'cluster; * stands for every cluster without a price of its own',
    valid_from   DateTime64(3, 'UTC') COMMENT 'UTC; start of the step, inclusive',
    valid_to     DateTime64(3, 'UTC') COMMENT 'UTC; end of the step, exclusive; 2200-01-01 or later: open',
    tariff       Nullable(Decimal(18, 9)) COMMENT 'money per kWh of facility energy; NULL: no price',
    currency     String COMMENT 'currency of the tariff, as an ISO 4217 code; empty: no tariff',
    pue          Nullable(Decimal(18, 9)) COMMENT 'facility energy over measured energy; NULL: no value',
    carbon       Nullable(Decimal(18, 9)) COMMENT 'gCO2eq per kWh of facility energy; NULL: no value',
    tariff_until DateTime64(3, 'UTC') COMMENT 'UTC; when another tariff follows, or none',
    pue_until    DateTime64(3, 'UTC') COMMENT 'UTC; when another PUE follows, or none',
    carbon_until DateTime64(3, 'UTC') COMMENT 'UTC; when another carbon intensity follows, or none'
)
AS
WITH
    toDateTime64('2299-12-31 00:00:00', 3, 'UTC') AS far,
    book AS
    (
        SELECT toString(kind) AS kind, toString(cluster) AS scope, valid_from AS starts, valid_to AS ends, value, toString(currency) AS money
        FROM prices FINAL
    ),
    times AS
    (
        SELECT DISTINCT scope, arrayJoin([starts, ends]) AS at FROM book
        UNION DISTINCT
        SELECT s.scope AS scope, d.at AS at
        FROM (SELECT DISTINCT scope FROM book) AS s
        CROSS JOIN (SELECT DISTINCT arrayJoin([starts, ends]) AS at FROM book WHERE scope = '*') AS d
    ),
    applied AS
    (
        SELECT
            t.scope AS scope, t.kind AS kind, t.at AS at,
            own.ends > t.at AS is_own, is_own OR every.ends > t.at AS is_known,
            if(is_own, own.value, every.value) AS value, if(is_own, own.money, every.money) AS money,
            multiIf(is_own, (2, own.starts), is_known, (1, every.starts), (0, toDateTime64(0, 3, 'UTC'))) AS price
        FROM (SELECT scope, at, arrayJoin(['energy', 'pue', 'carbon']) AS kind FROM times) AS t
        ASOF LEFT JOIN (SELECT * FROM book WHERE scope != '*') AS own
            ON own.scope = t.scope AND own.kind = t.kind AND own.starts <= t.at
        ASOF LEFT JOIN (SELECT * FROM book WHERE scope = '*') AS every
            ON every.kind = t.kind AND every.starts <= t.at
    ),
    changed AS
    (
        SELECT
            *, price != lagInFrame(price, 1, (9, toDateTime64(0, 3, 'UTC'))) OVER (PARTITION BY scope, kind ORDER BY at) AS is_new
        FROM applied
    ),
    ended AS
    (
        SELECT
            *,
            minIf(at, is_new) OVER (PARTITION BY scope, kind ORDER BY at DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS next_new,
            if(next_new > at, next_new, far) AS until
        FROM changed
    )
SELECT
    scope AS cluster, at AS valid_from, leadInFrame(at, 1, far) OVER (PARTITION BY scope ORDER BY at ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) AS valid_to,
    anyIf(if(is_known, value, NULL), kind = 'energy') AS tariff, anyIf(if(is_known, money, ''), kind = 'energy') AS currency,
    anyIf(if(is_known, value, NULL), kind = 'pue') AS pue, anyIf(if(is_known, value, NULL), kind = 'carbon') AS carbon,
    anyIf(until, kind = 'energy') AS tariff_until, anyIf(until, kind = 'pue') AS pue_until, anyIf(until, kind = 'carbon') AS carbon_until
FROM ended
GROUP BY scope, at;

-- The ledger by hour, with money. An hour has several rows of one group where a price changes inside it, or the tenant
-- moves to another team: those are read from windows. So no row spans two prices, and sums are those of the bill.
CREATE OR REPLACE VIEW usage_hour
(
    hour                        DateTime64(3, 'UTC') COMMENT 'UTC; start of the hour',
    tenant                      LowCardinality(String) COMMENT 'tenant that pays; __idle__ and __unallocated__ stand for energy that no tenant''s work bears',
    team                        LowCardinality(String) COMMENT 'team of the tenant at that time; empty: none',
    cost_centre                 LowCardinality(String) COMMENT 'cost centre of the tenant at that time; empty: none',
    cluster                     LowCardinality(String) COMMENT 'cluster',
    workload                    LowCardinality(String) COMMENT 'workload: whatever occupies the GPUs; ~node: GPUs that no workload occupied',
    model                       LowCardinality(String) COMMENT 'model; empty: energy without requests',
    hardware                    LowCardinality(String) COMMENT 'hardware type; empty: nothing was measured',
    part                        LowCardinality(String) COMMENT 'part of a node that was measured: gpu, host or wall; empty: nothing was measured',
    user                        String COMMENT 'end user, as a hash or name of the sender; empty unless the ledger keeps it',
    application                 LowCardinality(String) COMMENT 'application that asked, by the sender''s word; empty: unknown',
    feature                     LowCardinality(String) COMMENT 'feature of the application, by the sender''s word; empty: unknown',
    provider                    LowCardinality(String) COMMENT 'provider of the model, by the sender''s word; empty: unknown',
    region                      LowCardinality(String) COMMENT 'region, by the sender''s word; empty: unknown',
    endpoint                    LowCardinality(String) COMMENT 'endpoint of the API, by the sender''s word; empty: unknown',
    priority                    LowCardinality(String) COMMENT 'priority or service tier, by the sender''s word; empty: unknown',
    sender                      LowCardinality(String) COMMENT 'credential that sent the request; empty unless the ledger keeps it',
    prompt_tokens               Int64 COMMENT 'prompt (input) tokens, cached ones included',
    cached_tokens               Int64 COMMENT 'prompt tokens read from a cache; a part of prompt_tokens',
    completion_tokens           Int64 COMMENT 'completion (output) tokens',
    cache_write_tokens          Int64 COMMENT 'prompt tokens written to a cache; a part of prompt_tokens; 0 also where the source does not say',
    audio_prompt_tokens         Int64 COMMENT 'audio tokens of the prompt; a part of prompt_tokens; 0 also where the source does not say',
    image_prompt_tokens         Int64 COMMENT 'image tokens of the prompt; a part of prompt_tokens; 0 also where the source does not say',
    estimated_prompt_tokens     Int64 COMMENT 'prompt tokens that were estimated because nobody reported them; a part of prompt_tokens',
    reasoning_tokens            Int64 COMMENT 'reasoning tokens; a part of completion_tokens; 0 also where the source does not say',
    accepted_prediction_tokens  Int64 COMMENT 'accepted tokens of a prediction; a part of completion_tokens',
    rejected_prediction_tokens  Int64 COMMENT 'rejected tokens of a prediction; a part of completion_tokens',
    audio_completion_tokens     Int64 COMMENT 'audio tokens of the completion; a part of completion_tokens',
    image_completion_tokens     Int64 COMMENT 'image tokens of the completion; a part of completion_tokens',
    estimated_completion_tokens Int64 COMMENT 'completion tokens that were estimated because nobody reported them; a part of completion_tokens',
    requests                    Int64 COMMENT 'requests that ended in this time',
    failures                    Int64 COMMENT 'of these, requests that failed',
    energy_uj                   Int128 COMMENT 'microjoules, measured: active + idle + unallocated',
    active_uj                   Int128 COMMENT 'microjoules spent on work',
    idle_uj                     Int128 COMMENT 'microjoules drawn without work',
    unallocated_uj              Int128 COMMENT 'microjoules of GPUs that no workload occupied',
    energy_kwh                  Decimal(38, 18) COMMENT 'kWh, measured: energy_uj in kWh, rounded half up at 18 decimals',
    facility_kwh                Nullable(Decimal(38, 18)) COMMENT 'kWh of the facility: measured energy times PUE; NULL: unknown, see missing',
    tariff                      Nullable(Decimal(18, 9)) COMMENT 'money per kWh that applied; NULL: no price',
    pue                         Nullable(Decimal(18, 9)) COMMENT 'PUE that applied; NULL: no value',
    carbon                      Nullable(Decimal(18, 9)) COMMENT 'gCO2eq per kWh that applied; NULL: no value',
    currency                    LowCardinality(String) COMMENT 'currency of cost, as an ISO 4217 code; never add costs of two; empty: no tariff',
    cost                        Nullable(Decimal(38, 18)) COMMENT 'money of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    gco2                        Nullable(Decimal(38, 18)) COMMENT 'gCO2eq of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    missing                     String COMMENT 'what cost and gco2 lack, separated by commas: energy (a tariff), pue, carbon; the same with within windows: it changes inside stored windows; measured energy: nobody measured; empty: nothing',
    method                      LowCardinality(String) COMMENT 'evidence for the energy, the weakest in the row: counter, integrated, estimated, unmetered',
    simulated                   UInt8 COMMENT '1: the cluster''s energy is simulated; show that beside each figure'
)
AS
WITH
    toInt256(3600000000000) AS unit,
    changes AS
    (
        SELECT toUnixTimestamp64Milli(arrayJoin([valid_from, valid_to])) AS at_ms FROM prices FINAL
        UNION DISTINCT
        SELECT toUnixTimestamp64Milli(valid_from) AS at_ms FROM tenants FINAL
    ),
    cut_hours AS (SELECT DISTINCT intDiv(at_ms, 3600000) AS hour_no FROM changes WHERE at_ms % 3600000 != 0),
    pieces AS
    (
        SELECT
            h.hour AS at_hour, toUnixTimestamp64Milli(h.hour) AS at_ms, at_ms + 3600000 AS until_ms,
            h.tenant AS of_tenant, h.cluster AS of_cluster, h.workload AS workload, h.model AS model, h.hardware AS hardware,
            h.user AS user, h.application AS application, h.feature AS feature, h.provider AS provider, h.region AS
            region, h.endpoint AS endpoint, h.priority AS priority, h.sender AS sender,
            toInt128(h.active_uj) AS active_uj, toInt128(h.idle_uj) AS idle_uj, toInt128(h.unallocated_uj) AS unallocated_uj,
            h.prompt_tokens AS prompt_tokens, h.cached_tokens AS cached_tokens, h.completion_tokens AS
            completion_tokens, h.cache_write_tokens AS cache_write_tokens, h.audio_prompt_tokens AS
            audio_prompt_tokens, h.image_prompt_tokens AS image_prompt_tokens, h.estimated_prompt_tokens AS
            estimated_prompt_tokens, h.reasoning_tokens AS reasoning_tokens, h.accepted_prediction_tokens AS
            accepted_prediction_tokens, h.rejected_prediction_tokens AS rejected_prediction_tokens,
            h.audio_completion_tokens AS audio_completion_tokens, h.image_completion_tokens AS
            image_completion_tokens, h.estimated_completion_tokens AS estimated_completion_tokens,
            h.requests AS requests, h.failures AS failures, h.method AS evidence
        FROM ledger_hour AS h FINAL
        WHERE intDiv(toUnixTimestamp64Milli(h.hour), 3600000) NOT IN (SELECT hour_no FROM cut_hours)

        UNION ALL

        SELECT
            CAST(toStartOfHour(w.window_start) AS DateTime64(3, 'UTC')) AS at_hour,
            roundDown(toUnixTimestamp64Milli(w.window_start), (SELECT arrayConcat([0], arraySort(groupArray(at_ms))) FROM changes)) AS at_ms,
            max(toUnixTimestamp64Milli(w.window_start) + w.window_ms) AS until_ms,
            w.tenant AS of_tenant, w.cluster AS of_cluster, w.workload AS workload, w.model AS model, w.hardware AS hardware,
            w.user AS user, w.application AS application, w.feature AS feature, w.provider AS provider, w.region AS
            region, w.endpoint AS endpoint, w.priority AS priority, w.sender AS sender,
            sum(toInt128(w.active_uj)) AS active_uj, sum(toInt128(w.idle_uj)) AS idle_uj, sum(toInt128(w.unallocated_uj)) AS unallocated_uj,
            sum(w.prompt_tokens) AS prompt_tokens, sum(w.cached_tokens) AS cached_tokens, sum(w.completion_tokens) AS
            completion_tokens, sum(w.cache_write_tokens) AS cache_write_tokens, sum(w.audio_prompt_tokens) AS
            audio_prompt_tokens, sum(w.image_prompt_tokens) AS image_prompt_tokens, sum(w.estimated_prompt_tokens) AS
            estimated_prompt_tokens, sum(w.reasoning_tokens) AS reasoning_tokens, sum(w.accepted_prediction_tokens) AS
            accepted_prediction_tokens, sum(w.rejected_prediction_tokens) AS rejected_prediction_tokens,
            sum(w.audio_completion_tokens) AS audio_completion_tokens, sum(w.image_completion_tokens) AS
            image_completion_tokens, sum(w.estimated_completion_tokens) AS estimated_completion_tokens,
            sum(w.requests) AS requests, sum(w.failures) AS failures, max(w.method) AS evidence
        FROM ledger AS w FINAL
        WHERE w.final = 1
          AND intDiv(toUnixTimestamp64Milli(w.window_start), 3600000) IN (SELECT hour_no FROM cut_hours)
          -- For the index, whose first part are these ten minutes.
          AND toStartOfTenMinutes(w.window_start) IN (SELECT toDateTime(arrayJoin(range(6)) * 600 + hour_no * 3600, 'UTC') FROM cut_hours)
        GROUP BY at_hour, at_ms, of_tenant, of_cluster, workload, model, hardware, user, application, feature, provider, region, endpoint, priority, sender
    ),
    priced AS
    (
        SELECT
            u.*, p.tariff AS tariff, p.currency AS currency, p.pue AS pue, p.carbon AS carbon, a.team AS team, a.cost_centre AS cost_centre,
            active_uj + idle_uj + unallocated_uj AS energy_uj, evidence != 3 AS is_metered, energy_uj != 0 AS is_due,
            is_due AND toUnixTimestamp64Milli(p.tariff_until) < u.until_ms AND p.cluster != '' AS tariff_divided,
            is_due AND toUnixTimestamp64Milli(p.pue_until) < u.until_ms AND p.cluster != '' AS pue_divided,
            is_due AND toUnixTimestamp64Milli(p.carbon_until) < u.until_ms AND p.cluster != '' AS carbon_divided,
            is_metered AND NOT (is_due AND isNull(p.pue)) AND NOT pue_divided AS facility_known,
            toInt256(energy_uj) * toInt256(toDecimal256(ifNull(p.pue, 0), 9) * 1000000000) AS facility_nano_uj,
            facility_nano_uj * toInt256(toDecimal256(ifNull(p.tariff, 0), 9) * 1000000000) * 2 + unit AS cost_doubled,
            facility_nano_uj * toInt256(toDecimal256(ifNull(p.carbon, 0), 9) * 1000000000) * 2 + unit AS gco2_doubled,
            facility_nano_uj * 1000000000 * 2 + unit AS facility_doubled,
            toInt256(energy_uj) * 1000000000000000000 * 2 + unit AS kwh_doubled
        FROM (SELECT *, if(toString(of_cluster) IN (SELECT toString(cluster) FROM prices FINAL), toString(of_cluster), '*') AS scope FROM pieces) AS u
        ASOF LEFT JOIN price_steps AS p ON p.cluster = u.scope AND toUnixTimestamp64Milli(p.valid_from) <= u.at_ms
        ASOF LEFT JOIN (SELECT tenant, team, cost_centre, toUnixTimestamp64Milli(valid_from) AS from_ms FROM tenants FINAL) AS a
            ON a.tenant = u.of_tenant AND a.from_ms <= u.at_ms
    )
SELECT
    at_hour AS hour, of_tenant AS tenant, team, cost_centre, of_cluster AS cluster, workload, model, hardware,
    multiIf(hardware = '', '', hardware = 'host', 'host', startsWith(hardware, 'wall '), 'wall', 'gpu') AS part,
    user, application, feature, provider, region, endpoint, priority, sender,
    prompt_tokens, cached_tokens, completion_tokens, cache_write_tokens, audio_prompt_tokens, image_prompt_tokens,
    estimated_prompt_tokens, reasoning_tokens, accepted_prediction_tokens, rejected_prediction_tokens,
    audio_completion_tokens, image_completion_tokens, estimated_completion_tokens,
    requests, failures, energy_uj, active_uj, idle_uj, unallocated_uj,
    toDecimal256(intDiv(kwh_doubled - positiveModulo(kwh_doubled, 2 * unit), 2 * unit), 0) * toDecimal256('0.000000000000000001', 18) AS energy_kwh,
    if(facility_known, toDecimal256(intDiv(facility_doubled - positiveModulo(facility_doubled, 2 * unit), 2 * unit), 0) * toDecimal256('0.000000000000000001', 18), NULL) AS facility_kwh,
    tariff, pue, carbon, currency,
    if(facility_known AND NOT (is_due AND isNull(tariff)) AND NOT tariff_divided, toDecimal256(intDiv(cost_doubled - positiveModulo(cost_doubled, 2 * unit), 2 * unit), 0) * toDecimal256('0.000000000000000001', 18), NULL) AS cost,
    if(facility_known AND NOT (is_due AND isNull(carbon)) AND NOT carbon_divided, toDecimal256(intDiv(gco2_doubled - positiveModulo(gco2_doubled, 2 * unit), 2 * unit), 0) * toDecimal256('0.000000000000000001', 18), NULL) AS gco2,
    arrayStringConcat(arrayFilter(reason -> reason != '', [
        if(is_metered, '', 'measured energy'),
        multiIf(tariff_divided, 'energy within windows', is_due AND isNull(tariff), 'energy', ''),
        multiIf(pue_divided, 'pue within windows', is_due AND isNull(pue), 'pue', ''),
        multiIf(carbon_divided, 'carbon within windows', is_due AND isNull(carbon), 'carbon', '')]), ', ') AS missing,
    ['counter', 'integrated', 'estimated', 'unmetered'][evidence + 1] AS method,
    toString(of_cluster) IN (SELECT toString(cluster) FROM clusters FINAL WHERE clusters.simulated = 1) AS simulated
FROM priced;

-- Energy, money and grams by hour, for who asks of the fleet: one row for each hour, cluster, workload, hardware and tenant.
CREATE OR REPLACE VIEW energy_hour
(
    hour           DateTime64(3, 'UTC') COMMENT 'UTC; start of the hour',
    cluster        LowCardinality(String) COMMENT 'cluster',
    workload       LowCardinality(String) COMMENT 'workload: whatever occupies the GPUs; ~node: GPUs that no workload occupied',
    hardware       LowCardinality(String) COMMENT 'hardware type; empty: nothing was measured',
    part           LowCardinality(String) COMMENT 'part of a node that was measured: gpu, host or wall; empty: nothing was measured',
    tenant         LowCardinality(String) COMMENT 'tenant that pays; __idle__ and __unallocated__ stand for energy that no tenant''s work bears',
    team           LowCardinality(String) COMMENT 'team of the tenant at that time; empty: none',
    cost_centre    LowCardinality(String) COMMENT 'cost centre of the tenant at that time; empty: none',
    energy_uj      Int128 COMMENT 'microjoules, measured: active + idle + unallocated',
    active_uj      Int128 COMMENT 'microjoules spent on work',
    idle_uj        Int128 COMMENT 'microjoules drawn without work',
    unallocated_uj Int128 COMMENT 'microjoules of GPUs that no workload occupied',
    energy_kwh     Decimal(38, 18) COMMENT 'kWh, measured: energy_uj in kWh, rounded half up at 18 decimals',
    facility_kwh   Nullable(Decimal(38, 18)) COMMENT 'kWh of the facility: measured energy times PUE; NULL: unknown, see missing',
    currency       LowCardinality(String) COMMENT 'currency of cost, as an ISO 4217 code; never add costs of two; empty: no tariff',
    cost           Nullable(Decimal(38, 18)) COMMENT 'money of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    gco2           Nullable(Decimal(38, 18)) COMMENT 'gCO2eq of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    missing        String COMMENT 'what cost and gco2 lack, separated by commas: energy (a tariff), pue, carbon; the same with within windows: it changes inside stored windows; measured energy: nobody measured; empty: nothing',
    simulated      UInt8 COMMENT '1: the cluster''s energy is simulated; show that beside each figure'
)
AS
SELECT
    u.hour AS hour, u.cluster AS cluster, u.workload AS workload, u.hardware AS hardware, any(u.part) AS part, u.tenant AS tenant,
    u.team AS team, u.cost_centre AS cost_centre,
    sum(toInt128(u.energy_uj)) AS energy_uj, sum(toInt128(u.active_uj)) AS active_uj, sum(toInt128(u.idle_uj)) AS idle_uj, sum(toInt128(u.unallocated_uj)) AS unallocated_uj,
    sum(u.energy_kwh) AS energy_kwh,
    if(countIf(u.energy_uj != 0 AND isNull(u.facility_kwh)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.facility_kwh)) AS facility_kwh,
    u.currency AS currency,
    if(countIf(u.energy_uj != 0 AND isNull(u.cost)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.cost)) AS cost,
    if(countIf(u.energy_uj != 0 AND isNull(u.gco2)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.gco2)) AS gco2,
    arrayStringConcat(arraySort(arrayFilter(reason -> reason != '', groupUniqArrayArray(splitByString(', ', u.missing)))), ', ') AS missing,
    max(u.simulated) AS simulated
FROM usage_hour AS u
WHERE u.hardware != ''
GROUP BY hour, cluster, workload, hardware, tenant, team, cost_centre, currency;

-- Tokens by kind and hour: one row for each hour, tenant, cluster, workload, model and currency.
CREATE OR REPLACE VIEW tokens_hour
(
    hour                        DateTime64(3, 'UTC') COMMENT 'UTC; start of the hour',
    tenant                      LowCardinality(String) COMMENT 'tenant that pays; __idle__ and __unallocated__ stand for energy that no tenant''s work bears',
    team                        LowCardinality(String) COMMENT 'team of the tenant at that time; empty: none',
    cost_centre                 LowCardinality(String) COMMENT 'cost centre of the tenant at that time; empty: none',
    cluster                     LowCardinality(String) COMMENT 'cluster',
    workload                    LowCardinality(String) COMMENT 'workload: whatever occupies the GPUs; ~node: GPUs that no workload occupied',
    model                       LowCardinality(String) COMMENT 'model; empty: energy without requests',
    prompt_tokens               Int64 COMMENT 'prompt (input) tokens, cached ones included',
    cached_tokens               Int64 COMMENT 'prompt tokens read from a cache; a part of prompt_tokens',
    completion_tokens           Int64 COMMENT 'completion (output) tokens',
    cache_write_tokens          Int64 COMMENT 'prompt tokens written to a cache; a part of prompt_tokens; 0 also where the source does not say',
    audio_prompt_tokens         Int64 COMMENT 'audio tokens of the prompt; a part of prompt_tokens; 0 also where the source does not say',
    image_prompt_tokens         Int64 COMMENT 'image tokens of the prompt; a part of prompt_tokens; 0 also where the source does not say',
    estimated_prompt_tokens     Int64 COMMENT 'prompt tokens that were estimated because nobody reported them; a part of prompt_tokens',
    reasoning_tokens            Int64 COMMENT 'reasoning tokens; a part of completion_tokens; 0 also where the source does not say',
    accepted_prediction_tokens  Int64 COMMENT 'accepted tokens of a prediction; a part of completion_tokens',
    rejected_prediction_tokens  Int64 COMMENT 'rejected tokens of a prediction; a part of completion_tokens',
    audio_completion_tokens     Int64 COMMENT 'audio tokens of the completion; a part of completion_tokens',
    image_completion_tokens     Int64 COMMENT 'image tokens of the completion; a part of completion_tokens',
    estimated_completion_tokens Int64 COMMENT 'completion tokens that were estimated because nobody reported them; a part of completion_tokens',
    requests                    Int64 COMMENT 'requests that ended in this time',
    failures                    Int64 COMMENT 'of these, requests that failed',
    unmetered_tokens            Int64 COMMENT 'prompt and completion tokens without measured energy; cost and energy are of the others',
    unmetered_requests          Int64 COMMENT 'requests without measured energy',
    energy_uj                   Int128 COMMENT 'microjoules, measured',
    currency                    LowCardinality(String) COMMENT 'currency of cost, as an ISO 4217 code; never add costs of two; empty: no tariff',
    cost                        Nullable(Decimal(38, 18)) COMMENT 'money of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    gco2                        Nullable(Decimal(38, 18)) COMMENT 'gCO2eq of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    missing                     String COMMENT 'what cost and gco2 lack, separated by commas: energy (a tariff), pue, carbon; the same with within windows: it changes inside stored windows; measured energy: nobody measured; empty: nothing',
    simulated                   UInt8 COMMENT '1: the cluster''s energy is simulated; show that beside each figure'
)
AS
SELECT
    u.hour AS hour, u.tenant AS tenant, u.team AS team, u.cost_centre AS cost_centre, u.cluster AS cluster, u.workload AS workload,
    u.model AS model,
    sum(u.prompt_tokens) AS prompt_tokens, sum(u.cached_tokens) AS cached_tokens, sum(u.completion_tokens) AS
    completion_tokens, sum(u.cache_write_tokens) AS cache_write_tokens, sum(u.audio_prompt_tokens) AS
    audio_prompt_tokens, sum(u.image_prompt_tokens) AS image_prompt_tokens, sum(u.estimated_prompt_tokens) AS
    estimated_prompt_tokens, sum(u.reasoning_tokens) AS reasoning_tokens, sum(u.accepted_prediction_tokens) AS
    accepted_prediction_tokens, sum(u.rejected_prediction_tokens) AS rejected_prediction_tokens,
    sum(u.audio_completion_tokens) AS audio_completion_tokens, sum(u.image_completion_tokens) AS
    image_completion_tokens, sum(u.estimated_completion_tokens) AS estimated_completion_tokens,
    sum(u.requests) AS requests, sum(u.failures) AS failures,
    sumIf(u.prompt_tokens + u.completion_tokens, u.method = 'unmetered') AS unmetered_tokens, sumIf(u.requests, u.method = 'unmetered') AS unmetered_requests,
    sum(toInt128(u.energy_uj)) AS energy_uj, u.currency AS currency,
    if(countIf(u.energy_uj != 0 AND isNull(u.cost)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.cost)) AS cost,
    if(countIf(u.energy_uj != 0 AND isNull(u.gco2)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.gco2)) AS gco2,
    arrayStringConcat(arraySort(arrayFilter(reason -> reason != '', groupUniqArrayArray(splitByString(', ', u.missing)))), ', ') AS missing,
    max(u.simulated) AS simulated
FROM usage_hour AS u
GROUP BY hour, tenant, team, cost_centre, cluster, workload, model, currency
HAVING sum(u.prompt_tokens) != 0 OR sum(u.completion_tokens) != 0 OR sum(u.requests) != 0;

-- Energy and money per token by UTC day, for each tenant, cluster, workload, model and hardware.
CREATE OR REPLACE VIEW efficiency_day
(
    day                     DateTime64(3, 'UTC') COMMENT 'UTC; start of the day',
    tenant                  LowCardinality(String) COMMENT 'tenant that pays; __idle__ and __unallocated__ stand for energy that no tenant''s work bears',
    team                    LowCardinality(String) COMMENT 'team of the tenant at that time; empty: none',
    cost_centre             LowCardinality(String) COMMENT 'cost centre of the tenant at that time; empty: none',
    cluster                 LowCardinality(String) COMMENT 'cluster',
    workload                LowCardinality(String) COMMENT 'workload: whatever occupies the GPUs; ~node: GPUs that no workload occupied',
    model                   LowCardinality(String) COMMENT 'model; empty: energy without requests',
    hardware                LowCardinality(String) COMMENT 'hardware type; empty: nothing was measured',
    part                    LowCardinality(String) COMMENT 'part of a node that was measured: gpu, host or wall; empty: nothing was measured',
    prompt_tokens           Int64 COMMENT 'prompt (input) tokens, cached ones included',
    cached_tokens           Int64 COMMENT 'prompt tokens read from a cache; a part of prompt_tokens',
    completion_tokens       Int64 COMMENT 'completion (output) tokens',
    requests                Int64 COMMENT 'requests that ended in this time',
    failures                Int64 COMMENT 'of these, requests that failed',
    unmetered_tokens        Int64 COMMENT 'prompt and completion tokens without measured energy; cost and energy are of the others',
    unmetered_requests      Int64 COMMENT 'requests without measured energy',
    energy_uj               Int128 COMMENT 'microjoules, measured',
    active_uj               Int128 COMMENT 'microjoules spent on work',
    idle_uj                 Int128 COMMENT 'microjoules drawn without work',
    energy_kwh              Decimal(38, 18) COMMENT 'kWh, measured: energy_uj in kWh, rounded half up at 18 decimals',
    facility_kwh            Nullable(Decimal(38, 18)) COMMENT 'kWh of the facility: measured energy times PUE; NULL: unknown, see missing',
    joules_per_token        Nullable(Float64) COMMENT 'joules per prompt and completion token with measured energy, a ratio for people; NULL: no tokens or no energy',
    joules_per_output_token Nullable(Float64) COMMENT 'joules per completion token with measured energy; NULL: no tokens or no energy',
    currency                LowCardinality(String) COMMENT 'currency of cost, as an ISO 4217 code; never add costs of two; empty: no tariff',
    cost                    Nullable(Decimal(38, 18)) COMMENT 'money of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    gco2                    Nullable(Decimal(38, 18)) COMMENT 'gCO2eq of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    missing                 String COMMENT 'what cost and gco2 lack, separated by commas: energy (a tariff), pue, carbon; the same with within windows: it changes inside stored windows; measured energy: nobody measured; empty: nothing',
    cost_per_million_tokens Nullable(Decimal(38, 18)) COMMENT 'money per 1,000,000 prompt and completion tokens with measured energy, at 18 decimals; NULL: unknown, or no tokens',
    simulated               UInt8 COMMENT '1: the cluster''s energy is simulated; show that beside each figure'
)
AS
WITH
    sums AS
    (
        SELECT
            CAST(toStartOfDay(u.hour) AS DateTime64(3, 'UTC')) AS day, u.tenant AS tenant, u.team AS team, u.cost_centre AS cost_centre, u.cluster AS cluster,
            u.workload AS workload, u.model AS model, u.hardware AS hardware, any(u.part) AS part,
            sum(u.prompt_tokens) AS prompt_tokens, sum(u.cached_tokens) AS cached_tokens, sum(u.completion_tokens) AS completion_tokens,
            sum(u.requests) AS requests, sum(u.failures) AS failures,
            sumIf(u.prompt_tokens + u.completion_tokens, u.method = 'unmetered') AS unmetered_tokens, sumIf(u.requests, u.method = 'unmetered') AS unmetered_requests,
            sumIf(u.completion_tokens, u.method != 'unmetered') AS output_tokens,
            sumIf(u.prompt_tokens + u.completion_tokens, u.method != 'unmetered') AS metered_tokens,
            sum(toInt128(u.energy_uj)) AS energy_uj, sum(toInt128(u.active_uj)) AS active_uj, sum(toInt128(u.idle_uj)) AS idle_uj, sum(u.energy_kwh) AS energy_kwh,
            if(countIf(u.energy_uj != 0 AND isNull(u.facility_kwh)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.facility_kwh)) AS facility_kwh,
            u.currency AS currency,
            if(countIf(u.energy_uj != 0 AND isNull(u.cost)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.cost)) AS cost,
            if(countIf(u.energy_uj != 0 AND isNull(u.gco2)) > 0 OR countIf(u.method != 'unmetered') = 0, NULL, sum(u.gco2)) AS gco2,
            arrayStringConcat(arraySort(arrayFilter(reason -> reason != '', groupUniqArrayArray(splitByString(', ', u.missing)))), ', ') AS missing,
            max(u.simulated) AS simulated
        FROM usage_hour AS u
        GROUP BY day, tenant, team, cost_centre, cluster, workload, model, hardware, currency
    )
SELECT
    day, tenant, team, cost_centre, cluster, workload, model, hardware, part, prompt_tokens, cached_tokens, completion_tokens,
    requests, failures, unmetered_tokens, unmetered_requests, energy_uj, active_uj, idle_uj, energy_kwh, facility_kwh,
    if(metered_tokens > 0 AND energy_uj != 0, toFloat64(energy_uj) / 1000000 / metered_tokens, NULL) AS joules_per_token,
    if(output_tokens > 0 AND energy_uj != 0, toFloat64(energy_uj) / 1000000 / output_tokens, NULL) AS joules_per_output_token,
    currency, cost, gco2, missing,
    if(metered_tokens > 0, toDecimal256(cost, 18) * 1000000 / metered_tokens, NULL) AS cost_per_million_tokens,
    simulated
FROM sums;

-- Single requests of final windows, with energy, money and grams: one row for each request. Requests are kept 30 days from
-- when they were stored, and not at all where workers store none.
CREATE OR REPLACE VIEW requests_final
(
    tenant                      LowCardinality(String) COMMENT 'tenant that pays; __idle__ and __unallocated__ stand for energy that no tenant''s work bears',
    cluster                     LowCardinality(String) COMMENT 'cluster',
    workload                    LowCardinality(String) COMMENT 'workload: whatever occupies the GPUs; ~node: GPUs that no workload occupied',
    model                       LowCardinality(String) COMMENT 'model; empty: energy without requests',
    request_id                  String COMMENT 'id of the request, as its sender gave it; not unique over senders',
    session_id                  String COMMENT 'session of an agent; empty: none',
    trace_id                    String COMMENT 'trace; empty: none',
    user                        String COMMENT 'end user, as a hash or name of the sender; empty: unknown',
    application                 String COMMENT 'application that asked, by the sender''s word; empty: unknown',
    feature                     String COMMENT 'feature of the application, by the sender''s word; empty: unknown',
    provider                    String COMMENT 'provider of the model, by the sender''s word; empty: unknown',
    region                      String COMMENT 'region, by the sender''s word; empty: unknown',
    endpoint                    String COMMENT 'endpoint of the API, by the sender''s word; empty: unknown',
    priority                    String COMMENT 'priority or service tier, by the sender''s word; empty: unknown',
    sender                      String COMMENT 'credential that sent the request; empty: unknown',
    status                      LowCardinality(String) COMMENT 'ok, or why it failed',
    t_start                     DateTime64(3, 'UTC') COMMENT 'UTC; when it began',
    t_end                       DateTime64(3, 'UTC') COMMENT 'UTC; when it ended',
    prompt_tokens               Int64 COMMENT 'prompt (input) tokens, cached ones included',
    cached_tokens               Int64 COMMENT 'prompt tokens read from a cache; a part of prompt_tokens',
    completion_tokens           Int64 COMMENT 'completion (output) tokens',
    cache_write_tokens          Int64 COMMENT 'prompt tokens written to a cache; a part of prompt_tokens; 0 also where the source does not say',
    audio_prompt_tokens         Int64 COMMENT 'audio tokens of the prompt; a part of prompt_tokens; 0 also where the source does not say',
    image_prompt_tokens         Int64 COMMENT 'image tokens of the prompt; a part of prompt_tokens; 0 also where the source does not say',
    estimated_prompt_tokens     Int64 COMMENT 'prompt tokens that were estimated because nobody reported them; a part of prompt_tokens',
    reasoning_tokens            Int64 COMMENT 'reasoning tokens; a part of completion_tokens; 0 also where the source does not say',
    accepted_prediction_tokens  Int64 COMMENT 'accepted tokens of a prediction; a part of completion_tokens',
    rejected_prediction_tokens  Int64 COMMENT 'rejected tokens of a prediction; a part of completion_tokens',
    audio_completion_tokens     Int64 COMMENT 'audio tokens of the completion; a part of completion_tokens',
    image_completion_tokens     Int64 COMMENT 'image tokens of the completion; a part of completion_tokens',
    estimated_completion_tokens Int64 COMMENT 'completion tokens that were estimated because nobody reported them; a part of completion_tokens',
    windows                     UInt64 COMMENT 'windows of the ledger that it ran in',
    energy_uj                   Int128 COMMENT 'microjoules: its share, by work, of its tenant''s rows in these windows',
    active_uj                   Int128 COMMENT 'microjoules spent on work',
    idle_uj                     Int128 COMMENT 'microjoules drawn without work',
    joules_per_token            Nullable(Float64) COMMENT 'joules per prompt and completion token; NULL: no tokens or no energy',
    currency                    LowCardinality(String) COMMENT 'currency of cost, as an ISO 4217 code; never add costs of two; empty: no tariff',
    cost                        Nullable(Decimal(38, 18)) COMMENT 'money of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    gco2                        Nullable(Decimal(38, 18)) COMMENT 'gCO2eq of the facility energy, at 18 decimals; NULL: unknown, never 0, see missing',
    missing                     String COMMENT 'what cost and gco2 lack, separated by commas: energy (a tariff), pue, carbon; the same with within windows: it changes inside stored windows; measured energy: nobody measured; empty: nothing',
    simulated                   UInt8 COMMENT '1: the cluster''s energy is simulated; show that beside each figure'
)
AS
WITH
    toInt256(3600000000000) AS unit,
    pieces AS
    (
        SELECT
            r.*, if(toString(r.cluster) IN (SELECT toString(cluster) FROM prices FINAL), toString(r.cluster), '*') AS scope,
            toUnixTimestamp64Milli(r.window_start) AS at_ms
        FROM request_energy AS r FINAL
    ),
    priced AS
    (
        SELECT
            u.*, p.currency AS money, toInt128(u.active_uj) + toInt128(u.idle_uj) AS piece_uj,
            piece_uj != 0 AS is_due, at_ms + u.window_ms AS until_ms,
            is_due AND toUnixTimestamp64Milli(p.tariff_until) < until_ms AND p.cluster != '' AS tariff_divided,
            is_due AND toUnixTimestamp64Milli(p.pue_until) < until_ms AND p.cluster != '' AS pue_divided,
            is_due AND toUnixTimestamp64Milli(p.carbon_until) < until_ms AND p.cluster != '' AS carbon_divided,
            [multiIf(tariff_divided, 'energy within windows', is_due AND isNull(p.tariff), 'energy', ''),
                multiIf(pue_divided, 'pue within windows', is_due AND isNull(p.pue), 'pue', ''),
                multiIf(carbon_divided, 'carbon within windows', is_due AND isNull(p.carbon), 'carbon', '')] AS reasons,
            toInt256(piece_uj) * toInt256(toDecimal256(ifNull(p.pue, 0), 9) * 1000000000) AS facility_nano_uj,
            facility_nano_uj * toInt256(toDecimal256(ifNull(p.tariff, 0), 9) * 1000000000) AS cost_units,
            facility_nano_uj * toInt256(toDecimal256(ifNull(p.carbon, 0), 9) * 1000000000) AS gco2_units
        FROM pieces AS u
        ASOF LEFT JOIN price_steps AS p ON p.cluster = u.scope AND toUnixTimestamp64Milli(p.valid_from) <= u.at_ms
    ),
    summed AS
    (
        SELECT
            tenant, cluster, workload, model, request_id, session_id, trace_id, user, application, feature, provider, region, endpoint, priority, sender, status, t_start, t_end,
            sum(q.prompt_tokens) AS prompt_tokens, sum(q.cached_tokens) AS cached_tokens, sum(q.completion_tokens) AS
            completion_tokens, sum(q.cache_write_tokens) AS cache_write_tokens, sum(q.audio_prompt_tokens) AS
            audio_prompt_tokens, sum(q.image_prompt_tokens) AS image_prompt_tokens, sum(q.estimated_prompt_tokens) AS
            estimated_prompt_tokens, sum(q.reasoning_tokens) AS reasoning_tokens, sum(q.accepted_prediction_tokens) AS
            accepted_prediction_tokens, sum(q.rejected_prediction_tokens) AS rejected_prediction_tokens,
            sum(q.audio_completion_tokens) AS audio_completion_tokens, sum(q.image_completion_tokens) AS
            image_completion_tokens, sum(q.estimated_completion_tokens) AS estimated_completion_tokens,
            uniqExact(q.window_start) AS windows, sum(toInt128(q.piece_uj)) AS energy_uj, sum(toInt128(q.active_uj)) AS active_uj, sum(toInt128(q.idle_uj)) AS idle_uj,
            groupUniqArrayIf(q.money, q.is_due AND q.money != '') AS currencies,
            groupUniqArrayArray(q.reasons) AS lacks,
            2 * sum(q.cost_units) + unit AS cost_doubled, 2 * sum(q.gco2_units) + unit AS gco2_doubled,
            energy_uj != 0 AND max(q.reasons[2] != '') = 0 AS facility_known,
            facility_known AND max(q.reasons[1] != '') = 0 AND length(currencies) <= 1 AS cost_known,
            facility_known AND max(q.reasons[3] != '') = 0 AS gco2_known
        FROM priced AS q
        GROUP BY tenant, cluster, workload, model, request_id, session_id, trace_id, user, application, feature, provider, region, endpoint, priority, sender, status, t_start, t_end
    )
SELECT
    tenant, cluster, workload, model, request_id, session_id, trace_id, user, application, feature, provider, region, endpoint, priority, sender, status, t_start, t_end,
    prompt_tokens, cached_tokens, completion_tokens, cache_write_tokens, audio_prompt_tokens, image_prompt_tokens,
    estimated_prompt_tokens, reasoning_tokens, accepted_prediction_tokens, rejected_prediction_tokens,
    audio_completion_tokens, image_completion_tokens, estimated_completion_tokens,
    windows, energy_uj, active_uj, idle_uj,
    if(prompt_tokens + completion_tokens > 0 AND energy_uj != 0, toFloat64(energy_uj) / 1000000 / (prompt_tokens + completion_tokens), NULL) AS joules_per_token,
    if(length(currencies) = 1, currencies[1], '') AS currency,
    if(cost_known, toDecimal256(intDiv(cost_doubled - positiveModulo(cost_doubled, 2 * unit), 2 * unit), 0) * toDecimal256('0.000000000000000001', 18), NULL) AS cost,
    if(gco2_known, toDecimal256(intDiv(gco2_doubled - positiveModulo(gco2_doubled, 2 * unit), 2 * unit), 0) * toDecimal256('0.000000000000000001', 18), NULL) AS gco2,
    arrayStringConcat(arrayFilter(reason -> reason != '', arraySort(arrayConcat(
        lacks, [if(energy_uj = 0, 'measured energy', ''), if(length(currencies) > 1, 'one currency', '')]))), ', ') AS missing,
    toString(cluster) IN (SELECT toString(cluster) FROM clusters FINAL WHERE clusters.simulated = 1) AS simulated
FROM summed;
