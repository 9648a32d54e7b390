-- Messages that are dead letters because their numbers were taken, of each run of a producer: the audit names them.
ALTER TABLE sources
    ADD COLUMN IF NOT EXISTS contested UInt64 COMMENT 'messages that are dead letters because their numbers were taken' AFTER last_event,
    ADD COLUMN IF NOT EXISTS contested_first_seq UInt64 COMMENT 'least of those numbers; 0 if there are none' AFTER contested,
    ADD COLUMN IF NOT EXISTS contested_last_seq UInt64 COMMENT 'greatest of those numbers' AFTER contested_first_seq,
    ADD COLUMN IF NOT EXISTS contested_first DateTime64(3, 'UTC') COMMENT 'event time of the earliest of those messages' AFTER contested_last_seq,
    ADD COLUMN IF NOT EXISTS contested_last DateTime64(3, 'UTC') COMMENT 'event time of the latest of those messages' AFTER contested_first;
