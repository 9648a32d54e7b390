-- Who writes a partition of the log. The greatest epoch holds it; whoever claimed before is refused (warehouse/fence.py).
-- Nothing is ever taken away here: a takeover adds a row of some 20 bytes.

CREATE TABLE claims
(
    log_id        LowCardinality(String),
    log_partition UInt16,
    epoch         UInt64 COMMENT 'of one takeover: no two have the same',
    owner         String COMMENT 'random, one a takeover',
    claimed_at    DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (log_id, log_partition, epoch, owner);
