-- Comparisons of two sources by hour, and what they found. A run that repeats hours replaces their rows.

CREATE TABLE IF NOT EXISTS reconciliation
(
    hour          DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    cluster       LowCardinality(String),
    workload      LowCardinality(String),
    tenant        LowCardinality(String) COMMENT 'empty: all tenants of the workload',
    quantity      LowCardinality(String),
    first_source  LowCardinality(String),
    second_source LowCardinality(String),
    first_amount  Int64 CODEC(T64, ZSTD(1)),
    second_amount Int64 CODEC(T64, ZSTD(1)),
    version       UInt64 CODEC(T64, ZSTD(1)) COMMENT 'when it was compared, epoch ms'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, cluster, workload, tenant, quantity, first_source, second_source);

CREATE TABLE IF NOT EXISTS reconciliation_findings
(
    until         DateTime64(3, 'UTC') COMMENT 'end of the newest hour that the run compared',
    cluster       LowCardinality(String),
    workload      LowCardinality(String) COMMENT '*: all of the cluster',
    tenant        LowCardinality(String),
    kind          LowCardinality(String) COMMENT 'empty: the run itself, which may have found nothing',
    source        LowCardinality(String) COMMENT 'the likely cause',
    quantities    LowCardinality(String) COMMENT 'separated by commas',
    since         DateTime64(3, 'UTC') COMMENT 'the first hour that differs, of those judged',
    first_source  LowCardinality(String),
    second_source LowCardinality(String),
    first_amount  Float64,
    second_amount Float64,
    says          String,
    comparisons   UInt32 COMMENT 'pairs that the run compared',
    version       UInt64 COMMENT 'when the run took place, epoch ms'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(until)
ORDER BY (until, cluster, workload, tenant, kind, source, second_source);
