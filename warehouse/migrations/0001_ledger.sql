-- Facts and the ledger. Rows replace each other by key: the greater `version` wins, `deleted = 1` takes a key away.
-- Read with FINAL. Partitions are days of event time; a day that is no longer written collapses to one part.

CREATE TABLE gpu_energy
(
    window_start  DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    cluster       LowCardinality(String),
    node          LowCardinality(String),
    gpu_uuid      LowCardinality(String),
    workload      LowCardinality(String),
    late_id       UInt64 CODEC(T64, ZSTD(1)) COMMENT '0: in time; else identifies the late message',
    window_ms     UInt32 CODEC(T64, ZSTD(1)),
    hardware      LowCardinality(String),
    owner         LowCardinality(String) COMMENT 'tenant that pays for an idle workload',
    method        UInt8 COMMENT '0 counter, 1 integrated, 2 estimated: the worst in the window',
    energy_uj     Int64 CODEC(T64, ZSTD(1)) COMMENT 'microjoules',
    covered_ms    Int64 CODEC(T64, ZSTD(1)) COMMENT 'time that intervals cover',
    busy_ms       Int64 CODEC(T64, ZSTD(1)) COMMENT 'utilisation x time; -1: unknown',
    log_id        LowCardinality(String),
    log_partition UInt16 CODEC(T64, ZSTD(1)),
    version       UInt64 CODEC(T64, ZSTD(1)),
    deleted       UInt8 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (cluster, workload, node, gpu_uuid, window_start, late_id)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE token_usage
(
    window_start      DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    cluster           LowCardinality(String),
    workload          LowCardinality(String),
    tenant            LowCardinality(String),
    model             LowCardinality(String),
    late_id           UInt64 CODEC(T64, ZSTD(1)),
    window_ms         UInt32 CODEC(T64, ZSTD(1)),
    prompt_tokens     Int64 CODEC(T64, ZSTD(1)),
    cached_tokens     Int64 CODEC(T64, ZSTD(1)) COMMENT 'a subset of prompt_tokens',
    completion_tokens Int64 CODEC(T64, ZSTD(1)),
    computed_mtok     Int64 CODEC(T64, ZSTD(1)) COMMENT 'thousandths of prompt tokens computed (not cached)',
    cached_mtok       Int64 CODEC(T64, ZSTD(1)),
    completion_mtok   Int64 CODEC(T64, ZSTD(1)),
    requests          Int64 CODEC(T64, ZSTD(1)) COMMENT 'requests that ended in this window',
    failures          Int64 CODEC(T64, ZSTD(1)),
    log_id            LowCardinality(String),
    log_partition     UInt16 CODEC(T64, ZSTD(1)),
    version           UInt64 CODEC(T64, ZSTD(1)),
    deleted           UInt8 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, cluster, workload, model, window_start, late_id)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE ledger
(
    window_start      DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    cluster           LowCardinality(String),
    workload          LowCardinality(String),
    hardware          LowCardinality(String) COMMENT 'empty: no energy was measured',
    model             LowCardinality(String),
    tenant            LowCardinality(String),
    window_ms         UInt32 CODEC(T64, ZSTD(1)),
    active_uj         Int64 CODEC(T64, ZSTD(1)),
    idle_uj           Int64 CODEC(T64, ZSTD(1)),
    unallocated_uj    Int64 CODEC(T64, ZSTD(1)),
    prompt_tokens     Int64 CODEC(T64, ZSTD(1)),
    cached_tokens     Int64 CODEC(T64, ZSTD(1)),
    completion_tokens Int64 CODEC(T64, ZSTD(1)),
    work              Int64 CODEC(T64, ZSTD(1)) COMMENT 'weighted tokens, in thousandths',
    requests          Int64 CODEC(T64, ZSTD(1)),
    failures          Int64 CODEC(T64, ZSTD(1)),
    method            UInt8 COMMENT '0 counter, 1 integrated, 2 estimated, 3 unmetered',
    weights_version   UInt32 CODEC(T64, ZSTD(1)),
    floor_version     UInt32 CODEC(T64, ZSTD(1)),
    revision          UInt32 CODEC(T64, ZSTD(1)) COMMENT 'how often late facts restated this window',
    final             UInt8,
    log_id            LowCardinality(String),
    log_partition     UInt16 CODEC(T64, ZSTD(1)),
    version           UInt64 CODEC(T64, ZSTD(1)),
    deleted           UInt8 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, cluster, workload, model, hardware, window_start)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- One row a request and window it ran in. The time to live counts from when the row was stored, not from event time,
-- so that a replay of an old recording keeps its rows.
CREATE TABLE request_energy
(
    tenant            LowCardinality(String),
    t_end             DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    request_id        String CODEC(ZSTD(1)),
    window_start      DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    late_id           UInt64 CODEC(T64, ZSTD(1)),
    window_ms         UInt32 CODEC(T64, ZSTD(1)),
    cluster           LowCardinality(String),
    workload          LowCardinality(String),
    model             LowCardinality(String),
    t_start           DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    session_id        String CODEC(ZSTD(1)),
    trace_id          String CODEC(ZSTD(1)),
    status            LowCardinality(String),
    prompt_tokens     Int64 CODEC(T64, ZSTD(1)),
    cached_tokens     Int64 CODEC(T64, ZSTD(1)),
    completion_tokens Int64 CODEC(T64, ZSTD(1)),
    computed_mtok     Int64 CODEC(T64, ZSTD(1)),
    cached_mtok       Int64 CODEC(T64, ZSTD(1)),
    completion_mtok   Int64 CODEC(T64, ZSTD(1)),
    active_uj         Int64 CODEC(T64, ZSTD(1)),
    idle_uj           Int64 CODEC(T64, ZSTD(1)),
    log_id            LowCardinality(String),
    log_partition     UInt16 CODEC(T64, ZSTD(1)),
    version           UInt64 CODEC(T64, ZSTD(1)),
    deleted           UInt8 CODEC(T64, ZSTD(1)),
    stored_at         DateTime DEFAULT now()
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, cluster, workload, window_start, request_id, t_end, model, late_id)
TTL stored_at + INTERVAL 30 DAY
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

CREATE VIEW requests AS
SELECT
    tenant, cluster, workload, model, request_id, session_id, trace_id, status, t_start, t_end,
    sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens, sum(completion_tokens) AS completion_tokens,
    sum(active_uj) AS active_uj, sum(idle_uj) AS idle_uj,
    uniqExact(window_start) AS windows
FROM request_energy FINAL
GROUP BY tenant, cluster, workload, model, request_id, session_id, trace_id, status, t_start, t_end;

-- Final windows by the hour, recomputed for dirty hours: what bills and dashboards read.
CREATE TABLE ledger_hour
(
    hour              DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    cluster           LowCardinality(String),
    workload          LowCardinality(String),
    hardware          LowCardinality(String),
    model             LowCardinality(String),
    tenant            LowCardinality(String),
    active_uj         Int64 CODEC(T64, ZSTD(1)),
    idle_uj           Int64 CODEC(T64, ZSTD(1)),
    unallocated_uj    Int64 CODEC(T64, ZSTD(1)),
    prompt_tokens     Int64 CODEC(T64, ZSTD(1)),
    cached_tokens     Int64 CODEC(T64, ZSTD(1)),
    completion_tokens Int64 CODEC(T64, ZSTD(1)),
    work              Int64 CODEC(T64, ZSTD(1)),
    requests          Int64 CODEC(T64, ZSTD(1)),
    failures          Int64 CODEC(T64, ZSTD(1)),
    windows           UInt32 CODEC(T64, ZSTD(1)),
    method            UInt8 COMMENT 'the worst in the hour',
    revision          UInt32 CODEC(T64, ZSTD(1)),
    version           UInt64 CODEC(T64, ZSTD(1)),
    deleted           UInt8 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant, cluster, workload, model, hardware, hour)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE marks
(
    log_id        LowCardinality(String),
    log_partition UInt16,
    epoch         UInt64 COMMENT 'which ownership of the partition wrote this',
    version       UInt64,
    final_end     DateTime64(3, 'UTC') COMMENT 'windows that end here or before are final and stored',
    power_offset  Int64 COMMENT 'everything before it on the power topic is stored',
    tokens_offset Int64,
    state         String COMMENT 'JSON: recent final cuts, and the sequence numbers seen'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (log_id, log_partition);

CREATE TABLE sources
(
    log_id        LowCardinality(String),
    log_partition UInt16,
    topic         LowCardinality(String),
    source        String,
    epoch         UInt64,
    version       UInt64,
    received      UInt64 COMMENT 'distinct events received',
    last_seq      UInt64 COMMENT 'last_seq + 1 - received is what the log lost',
    duplicates    UInt64,
    last_event    DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (log_id, log_partition, topic, source, epoch);
