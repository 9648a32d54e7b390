-- Billing: price books, closings of periods, and the lines and references that each closing froze. Nothing here is
-- changed: a later book, step or line is a new row.

CREATE TABLE price_books
(
    book_version UInt32 COMMENT 'counts from 1; the greatest is the book of today',
    stored_at    DateTime64(3, 'UTC'),
    actor        String COMMENT 'who stored it',
    sha256       String COMMENT 'of the text',
    text         String CODEC(ZSTD(3)) COMMENT 'TOML (docs/finance.md)'
)
ENGINE = ReplacingMergeTree
ORDER BY book_version;

CREATE TABLE billing_periods
(
    period       String COMMENT 'such as 2026-09',
    step         UInt32 COMMENT 'closings and reopenings of the period, from 1; the greatest counts',
    state        Enum8('closed' = 1, 'reopened' = 2),
    period_start DateTime64(3, 'UTC'),
    period_end   DateTime64(3, 'UTC'),
    time_zone    String,
    at           DateTime64(3, 'UTC') COMMENT 'when it was closed or reopened',
    actor        String,
    reason       String COMMENT 'of a reopening',
    book_version UInt32 COMMENT '0: no price book',
    lines        UInt32 COMMENT 'lines of the step that count',
    lines_sha256 String COMMENT 'of all lines, in order (billing/proof.py)',
    audit_head   String COMMENT 'hash of the newest entry of the audit log at the closing',
    cluster_aliases Map(String, String) COMMENT 'clusters by their former names, as they were at the closing'
)
ENGINE = ReplacingMergeTree
ORDER BY (period, step);

CREATE TABLE bill_lines
(
    period        String,
    step          UInt32 COMMENT 'the closing that froze it',
    line          UInt32 COMMENT 'number of the line in its period, from 1',
    line_id       String COMMENT 'the same line has it in every reading of its period',
    category      LowCardinality(String) COMMENT 'usage, purchase, discount, credit or tax',
    name          String COMMENT 'of the rate, fee or grant',
    meter         LowCardinality(String),
    unit          LowCardinality(String),
    quantity      Decimal(38, 12),
    price         Nullable(Decimal(38, 12)) COMMENT 'money for `per` units, where one price was used',
    per           Decimal(38, 12),
    amount        Nullable(Decimal(38, 3)) COMMENT 'money, rounded to the smallest unit; null: open',
    exact_amount  Nullable(Decimal(38, 12)) COMMENT 'money before rounding',
    currency      LowCardinality(String),
    side          LowCardinality(String) COMMENT 'cost, or revenue',
    line_start    DateTime64(3, 'UTC'),
    line_end      DateTime64(3, 'UTC'),
    tenant        LowCardinality(String),
    team          LowCardinality(String),
    cost_centre   LowCardinality(String),
    workload      LowCardinality(String),
    workload_type LowCardinality(String),
    model         LowCardinality(String),
    hardware      LowCardinality(String),
    sla           LowCardinality(String),
    region        LowCardinality(String),
    provider      LowCardinality(String),
    cluster       LowCardinality(String),
    energy_uj     Int128 COMMENT 'microjoules',
    gco2          Nullable(Decimal(38, 6)) COMMENT 'grams of CO2 equivalent',
    steps         Array(String) COMMENT 'the arithmetic',
    corrects      String COMMENT 'line of an earlier period that this one mends'
)
ENGINE = ReplacingMergeTree
PARTITION BY period
ORDER BY (period, step, line);

CREATE TABLE closed_prices
(
    period     String,
    step       UInt32,
    kind       Enum8('energy' = 1, 'pue' = 2, 'carbon' = 3),
    cluster    LowCardinality(String),
    valid_from DateTime64(3, 'UTC'),
    valid_to   DateTime64(3, 'UTC'),
    value      Decimal(18, 9),
    currency   LowCardinality(String),
    source     String
)
ENGINE = ReplacingMergeTree
ORDER BY (period, step, kind, cluster, valid_from);

CREATE TABLE closed_tenants
(
    period      String,
    step        UInt32,
    tenant      LowCardinality(String),
    valid_from  DateTime64(3, 'UTC'),
    team        LowCardinality(String),
    cost_centre LowCardinality(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (period, step, tenant, valid_from);
