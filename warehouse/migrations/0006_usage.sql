-- Metered quantities: what is on wattlog.usage.v1, row by row, for good.
--
-- A row is known by its place on the log, so that what is read again replaces itself. Which of several copies of one row
-- (the same identity, in other events) counts is settled before it is stored, by `usage_ids`: the copy that came onto the
-- log first. One that was stored before an earlier one was read is taken away by `deleted = 1`, at a greater version.

CREATE TABLE usage
(
    at            DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)) COMMENT 'the last millisecond of [t0, t1): where the row counts',
    cluster       LowCardinality(String),
    workload      LowCardinality(String),
    tenant        LowCardinality(String) COMMENT 'empty: nobody knows',
    meter         LowCardinality(String),
    unit          LowCardinality(String) COMMENT 'a currency (USD) for money',
    quantity      Decimal(38, 12) CODEC(ZSTD(1)),
    t0            DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    t1            DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    session_id    String CODEC(ZSTD(1)),
    trace_id      String CODEC(ZSTD(1)),
    step          String CODEC(ZSTD(1)),
    dimensions    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    origin        String CODEC(ZSTD(1)) COMMENT 'origin and event_id: which row this is to whoever metered it',
    event_id      String CODEC(ZSTD(1)),
    source        LowCardinality(String) COMMENT 'the event that brought it: source, epoch, seq',
    epoch         UInt64 CODEC(T64, ZSTD(1)),
    seq           UInt64 CODEC(DoubleDelta, ZSTD(1)),
    log_id        LowCardinality(String),
    log_partition UInt16 CODEC(T64, ZSTD(1)),
    log_offset    Int64 CODEC(DoubleDelta, ZSTD(1)),
    log_row       UInt32 CODEC(DoubleDelta, ZSTD(1)),
    version       UInt64 CODEC(T64, ZSTD(1)),
    deleted       UInt8 CODEC(T64, ZSTD(1)),
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMM(at)
ORDER BY (toStartOfHour(at), tenant, log_id, log_partition, log_offset, log_row)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- Copies by identity. Small granules and blocks: a batch asks for thousands of identities, each anywhere in the table.
CREATE TABLE usage_ids
(
    id_hi         UInt64 COMMENT 'BLAKE2b, 128 bits, of what identifies the row',
    id_lo         UInt64,
    log_ms        DateTime64(3, 'UTC') CODEC(ZSTD(1)) COMMENT 'when it came onto the log, as the log says',
    log_id        LowCardinality(String),
    log_partition UInt16 CODEC(ZSTD(1)),
    log_offset    Int64 CODEC(ZSTD(1)),
    log_row       UInt32 CODEC(ZSTD(1)),
    at            DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    tenant        LowCardinality(String),
    version       UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (id_hi, id_lo, log_id, log_partition, log_offset, log_row)
SETTINGS index_granularity = 256, min_compress_block_size = 2048, max_compress_block_size = 4096;

-- Events that were read: their numbers have no holes unless the log lost some.
CREATE TABLE usage_events
(
    source        LowCardinality(String),
    epoch         UInt64 CODEC(T64, ZSTD(1)),
    seq           UInt64 CODEC(DoubleDelta, ZSTD(1)),
    log_id        LowCardinality(String),
    log_partition UInt16 CODEC(T64, ZSTD(1)),
    log_offset    Int64 CODEC(DoubleDelta, ZSTD(1)),
    last_event    DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    version       UInt64 CODEC(T64, ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (log_id, source, epoch, seq, log_partition, log_offset);

-- Sessions are asked for by name, through all that is kept. Parts from before get the index when they merge.
ALTER TABLE request_energy ADD INDEX IF NOT EXISTS by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE request_energy ADD INDEX IF NOT EXISTS by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1;
