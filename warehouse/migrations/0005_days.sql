-- Hours added up to UTC days, recomputed with the hours (Sink.refresh_hours): a month's bill reads these, and hours only
-- of days in which a price changes or that the period cuts. Columns, order and versions are those of ledger_hour; a row's
-- version is the sum of its hours' versions.
-- Stop the workers first: one of an earlier version would go on to refresh hours and no days. Run again after a cut, this
-- stores the same rows once more.

CREATE TABLE ledger_day
(
    day               DateTime64(3, 'UTC') CODEC(DoubleDelta, LZ4),
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
    method            UInt8 COMMENT 'the worst in the day',
    revision          UInt32 CODEC(T64, LZ4),
    version           UInt64 CODEC(T64, LZ4),
    deleted           UInt8 CODEC(T64, LZ4)
)
ENGINE = ReplacingMergeTree(version, deleted)
PARTITION BY toYYYYMM(day)
ORDER BY (tenant, cluster, workload, model, hardware, day)
SETTINGS min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- Hours that were taken away count for nothing here and in a refresh for their versions: so that is never below this.
INSERT INTO ledger_day
(
    day, cluster, workload, hardware, model, tenant, active_uj, idle_uj, unallocated_uj,
    prompt_tokens, cached_tokens, completion_tokens, work, requests, failures, windows, method, revision, version, deleted
)
SELECT
    fromUnixTimestamp64Milli(day_no * 86400000, 'UTC'), cluster, workload, hardware, model, tenant,
    sum(h.active_uj), sum(h.idle_uj), sum(h.unallocated_uj),
    sum(h.prompt_tokens), sum(h.cached_tokens), sum(h.completion_tokens), sum(h.work), sum(h.requests), sum(h.failures),
    sum(h.windows), max(h.method), max(h.revision), sum(h.version), 0
FROM ledger_hour AS h FINAL
GROUP BY intDiv(toUnixTimestamp64Milli(h.hour), 86400000) AS day_no, cluster, workload, hardware, model, tenant
SETTINGS max_bytes_before_external_group_by = 1000000000, do_not_merge_across_partitions_select_final = 1;
