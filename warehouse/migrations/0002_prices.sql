-- Money and grams per unit, each valid over a half-open [valid_from, valid_to) for a cluster ('*': any without its own).
-- Scope and validity are the key: a later `version` of the same scope and start replaces it.

CREATE TABLE prices
(
    kind       Enum8('energy' = 1, 'pue' = 2, 'carbon' = 3) COMMENT 'money per kWh; facility over IT energy; gCO2eq per kWh',
    cluster    LowCardinality(String) COMMENT '* is the default for clusters without their own',
    valid_from DateTime64(3, 'UTC'),
    valid_to   DateTime64(3, 'UTC') DEFAULT toDateTime64('2200-01-01 00:00:00', 3, 'UTC'),
    value      Decimal(18, 9),
    currency   LowCardinality(String) DEFAULT '' COMMENT 'of kind energy only',
    source     String DEFAULT '' COMMENT 'contract, grid operator, SIMULATED ...',
    version    UInt64,
    deleted    UInt8 DEFAULT 0
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (kind, cluster, valid_from);

-- A team and a cost centre belong to a tenant.
CREATE TABLE tenants
(
    tenant      LowCardinality(String),
    team        LowCardinality(String),
    cost_centre LowCardinality(String),
    simulated   UInt8 DEFAULT 0,
    version     UInt64,
    deleted     UInt8 DEFAULT 0
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY tenant;

-- What attribution uses beside the log. Versioned and valid by event time, changed only by people: a replay must give
-- the same ledger. '*' stands for any.
CREATE TABLE idle_floors
(
    hardware   LowCardinality(String),
    valid_from DateTime64(3, 'UTC'),
    valid_to   DateTime64(3, 'UTC') DEFAULT toDateTime64('2200-01-01 00:00:00', 3, 'UTC'),
    idle_mw    UInt32 COMMENT 'milliwatts per GPU, powered without work',
    floor_version UInt32,
    source     String DEFAULT ''
)
ENGINE = ReplacingMergeTree(floor_version)
ORDER BY (hardware, valid_from);

CREATE TABLE work_weights
(
    model      LowCardinality(String),
    hardware   LowCardinality(String),
    valid_from DateTime64(3, 'UTC'),
    valid_to   DateTime64(3, 'UTC') DEFAULT toDateTime64('2200-01-01 00:00:00', 3, 'UTC'),
    prompt_milli     UInt32 COMMENT 'thousandths of work per computed prompt token',
    cached_milli     UInt32,
    completion_milli UInt32,
    weights_version  UInt32,
    source     String DEFAULT ''
)
ENGINE = ReplacingMergeTree(weights_version)
ORDER BY (model, hardware, valid_from);

-- Which clusters hold simulated energy: whatever shows their rows says SIMULATED.
CREATE TABLE clusters
(
    cluster   LowCardinality(String),
    simulated UInt8,
    note      String DEFAULT '',
    version   UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY cluster;
