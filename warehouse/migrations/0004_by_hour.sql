-- Facts and ledger by time first, then by what people and workers ask for within it. Sorted by tenant or GPU first, a page
-- of windows, one window's intervals and a worker's refresh of an hour each went through a whole day of the fleet.
-- The ledger goes by ten minutes and then by tenant, so that one window is a short read, and a tenant's day 144 of them.
-- Its key names window_start only inside functions: where the column itself is in the key, the index does not apply a
-- condition on it to toStartOfTenMinutes(window_start).
-- Partitions of ledger_hour become days, as everywhere: closed days collapse to one part each, where FINAL costs nothing,
-- and a refresh reads one day instead of the month.
--
-- Each table is copied into a new one that takes its name. Stop the workers first. Run again after a cut, this starts
-- each table over and loses nothing: the name changes hands in one step (EXCHANGE), and the copy is complete before it.

DROP TABLE IF EXISTS ledger_new;
CREATE TABLE ledger_new AS ledger
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (toStartOfTenMinutes(window_start), tenant, cluster, workload, model, hardware, toUnixTimestamp64Milli(window_start))
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
INSERT INTO ledger_new SELECT * FROM ledger;
EXCHANGE TABLES ledger AND ledger_new;
DROP TABLE ledger_new;

DROP TABLE IF EXISTS gpu_energy_new;
CREATE TABLE gpu_energy_new AS gpu_energy
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (window_start, cluster, workload, node, gpu_uuid, late_id)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
INSERT INTO gpu_energy_new SELECT * FROM gpu_energy;
EXCHANGE TABLES gpu_energy AND gpu_energy_new;
DROP TABLE gpu_energy_new;

DROP TABLE IF EXISTS token_usage_new;
CREATE TABLE token_usage_new AS token_usage
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (window_start, cluster, workload, tenant, model, late_id)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
INSERT INTO token_usage_new SELECT * FROM token_usage;
EXCHANGE TABLES token_usage AND token_usage_new;
DROP TABLE token_usage_new;

-- Requests are asked for by when they ended, which may be hours after a window that they ran in: hence the index.
DROP TABLE IF EXISTS request_energy_new;
CREATE TABLE request_energy_new AS request_energy
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (window_start, tenant, cluster, workload, request_id, t_end, model, late_id)
TTL stored_at + INTERVAL 30 DAY
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE request_energy_new ADD INDEX by_end t_end TYPE minmax GRANULARITY 1;
INSERT INTO request_energy_new SELECT * FROM request_energy;
EXCHANGE TABLES request_energy AND request_energy_new;
DROP TABLE request_energy_new;

-- LZ4 here: a bill reads every byte of its month, and decodes it a tenth faster than ZSTD at the same size.
DROP TABLE IF EXISTS ledger_hour_new;
CREATE TABLE ledger_hour_new
(
    hour              DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
    cluster           LowCardinality(String),
    workload          LowCardinality(String),
    hardware          LowCardinality(String),
    model             LowCardinality(String),
    tenant            LowCardinality(String),
    active_uj         Int64 CODEC(T64, LZ4),
    idle_uj           Int64 CODEC(T64, LZ4),
    unallocated_uj    Int64 CODEC(T64, LZ4),
    prompt_tokens     Int64 CODEC(T64, LZ4),
    cached_tokens     Int64 CODEC(T64, LZ4),
    completion_tokens Int64 CODEC(T64, LZ4),
    work              Int64 CODEC(T64, LZ4),
    requests          Int64 CODEC(T64, LZ4),
    failures          Int64 CODEC(T64, LZ4),
    windows           UInt32 CODEC(T64, LZ4),
    method            UInt8 COMMENT 'the worst in the hour',
    revision          UInt32 CODEC(T64, LZ4),
    version           UInt64 CODEC(T64, LZ4),
    deleted           UInt8 CODEC(T64, LZ4)
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMMDD(hour)
ORDER BY (tenant, cluster, workload, model, hardware, hour)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
INSERT INTO ledger_hour_new SELECT * FROM ledger_hour;
EXCHANGE TABLES ledger_hour AND ledger_hour_new;
DROP TABLE ledger_hour_new;
