-- Former names of clusters: rows under `alias` are read under `cluster`. Prices are stored under both names, so that each
-- reader finds them under the name that it has.
CREATE TABLE cluster_aliases
(
    alias   LowCardinality(String) COMMENT 'name under which rows are stored',
    cluster LowCardinality(String) COMMENT 'name under which bills show them',
    version UInt64,
    deleted UInt8 DEFAULT 0
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY alias;
