-- Lines of closed periods for analysts. The table of all closings' lines is called as those of their prices and tenants
-- are; `bill_lines` is the view of those that count.

RENAME TABLE IF EXISTS bill_lines TO closed_lines;

CREATE OR REPLACE VIEW bill_lines
(
    period        String COMMENT 'billing period, such as 2026-09; only closed ones are here',
    period_start  DateTime64(3, 'UTC') COMMENT 'UTC; start of the period, inclusive: a local day of time_zone',
    period_end    DateTime64(3, 'UTC') COMMENT 'UTC; end of the period, exclusive',
    time_zone     String COMMENT 'time zone of the period''s days, an IANA name',
    closing       UInt32 COMMENT 'number of the closing that froze the line; part of the invoice''s name',
    closed_at     DateTime64(3, 'UTC') COMMENT 'UTC; when the period was closed',
    line          UInt32 COMMENT 'number of the line in its period, from 1',
    line_id       String COMMENT 'name of the line: the same in every reading of its period',
    category      LowCardinality(String) COMMENT 'usage, purchase (fees, minimums, commitments), discount, credit or tax',
    side          LowCardinality(String) COMMENT 'cost: the bill; revenue: what customers pay; never add the two',
    name          String COMMENT 'name of the rate, fee or grant; electricity: by the tariffs of clusters',
    meter         LowCardinality(String) COMMENT 'what was metered: energy, input_tokens, gpu_allocated_seconds ...',
    unit          LowCardinality(String) COMMENT 'unit of quantity; never add quantities of two',
    quantity      Decimal(38, 12) COMMENT 'how much was used; of a correction the difference',
    price         Nullable(Decimal(38, 12)) COMMENT 'money for `per` units, where one price was used; NULL: electricity, tiers, grants',
    per           Decimal(38, 12) COMMENT 'units that the price is for',
    currency      LowCardinality(String) COMMENT 'currency of amount, as an ISO 4217 code; never add amounts of two; empty: electricity without a tariff',
    amount        Nullable(Decimal(38, 3)) COMMENT 'money, rounded so that a tenant''s lines in a currency sum to its invoice; NULL: unknown, never 0, see steps',
    exact_amount  Nullable(Decimal(38, 12)) COMMENT 'money before rounding; NULL: unknown',
    line_start    DateTime64(3, 'UTC') COMMENT 'UTC; start of the time that the line charges; of a correction, in the period that it corrects',
    line_end      DateTime64(3, 'UTC') COMMENT 'UTC; end of that time',
    tenant        LowCardinality(String) COMMENT 'tenant that is billed; __idle__ and __unallocated__: what the house bears itself',
    team          LowCardinality(String) COMMENT 'team of the tenant at that time; empty: none',
    cost_centre   LowCardinality(String) COMMENT 'cost centre of the tenant at that time; empty: none',
    workload      LowCardinality(String) COMMENT 'workload; empty: none, as of fees',
    workload_type LowCardinality(String) COMMENT 'workload type, by the labels of the price book; empty: none',
    model         LowCardinality(String) COMMENT 'model; empty: none, as of idle energy and fees',
    hardware      LowCardinality(String) COMMENT 'hardware type; empty: none',
    sla           LowCardinality(String) COMMENT 'service level, by the labels of the price book; empty: none',
    region        LowCardinality(String) COMMENT 'region, by the labels of the price book; empty: none',
    provider      LowCardinality(String) COMMENT 'provider, by the labels of the price book; empty: none',
    cluster       LowCardinality(String) COMMENT 'cluster, by its name at the closing; empty: none, as of fees',
    energy_uj     Int128 COMMENT 'microjoules, measured; 0 but for electricity',
    gco2          Nullable(Decimal(38, 6)) COMMENT 'gCO2eq of electricity; NULL: unknown, and of all other lines',
    steps         Array(String) COMMENT 'the arithmetic, a text for each product; of an unknown amount, what lacks',
    corrects      String COMMENT 'line_id of the line of an earlier period that this one corrects; empty: none',
    simulated     UInt8 COMMENT '1: the cluster''s energy is simulated; show that beside each figure'
)
AS
SELECT
    b.period AS period, p.starts AS period_start, p.ends AS period_end, p.zone AS time_zone, b.step AS closing, p.closed AS closed_at,
    b.line AS line, b.line_id AS line_id, b.category AS category, b.side AS side, b.name AS name, b.meter AS meter, b.unit AS unit,
    b.quantity AS quantity, b.price AS price, b.per AS per, b.currency AS currency, b.amount AS amount, b.exact_amount AS exact_amount,
    b.line_start AS line_start, b.line_end AS line_end, b.tenant AS tenant, b.team AS team, b.cost_centre AS cost_centre,
    b.workload AS workload, b.workload_type AS workload_type, b.model AS model, b.hardware AS hardware, b.sla AS sla,
    b.region AS region, b.provider AS provider, b.cluster AS cluster, b.energy_uj AS energy_uj, b.gco2 AS gco2, b.steps AS steps,
    b.corrects AS corrects,
    toString(b.cluster) IN (SELECT toString(cluster) FROM clusters FINAL WHERE clusters.simulated = 1) AS simulated
FROM closed_lines AS b FINAL
INNER JOIN
(
    SELECT
        s.period AS of_period, max(s.step) AS last_step, argMax(s.state, s.step) AS last_state, argMax(s.lines, s.step) AS count,
        argMax(s.period_start, s.step) AS starts, argMax(s.period_end, s.step) AS ends, argMax(s.time_zone, s.step) AS zone,
        argMax(s.at, s.step) AS closed
    FROM billing_periods AS s FINAL
    GROUP BY of_period
) AS p ON p.of_period = b.period AND p.last_step = b.step
WHERE p.last_state = 'closed' AND b.line <= p.count;
