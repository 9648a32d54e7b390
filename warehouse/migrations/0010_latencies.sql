-- How long requests took: the number of requests by bucket (contracts/histogram.py), an eighth of an octave of
-- microseconds. Histograms add up exactly, so that an hour's percentile is that of its requests.
ALTER TABLE token_usage
    ADD COLUMN IF NOT EXISTS time_to_first_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER failures,
    ADD COLUMN IF NOT EXISTS time_per_output_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_to_first_token,
    ADD COLUMN IF NOT EXISTS request_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_per_output_token,
    ADD COLUMN IF NOT EXISTS queue_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER request_duration;

ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS time_to_first_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER failures,
    ADD COLUMN IF NOT EXISTS time_per_output_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_to_first_token,
    ADD COLUMN IF NOT EXISTS request_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_per_output_token,
    ADD COLUMN IF NOT EXISTS queue_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER request_duration;

ALTER TABLE ledger_hour
    ADD COLUMN IF NOT EXISTS time_to_first_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER failures,
    ADD COLUMN IF NOT EXISTS time_per_output_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_to_first_token,
    ADD COLUMN IF NOT EXISTS request_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_per_output_token,
    ADD COLUMN IF NOT EXISTS queue_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER request_duration;

ALTER TABLE ledger_day
    ADD COLUMN IF NOT EXISTS time_to_first_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER failures,
    ADD COLUMN IF NOT EXISTS time_per_output_token Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_to_first_token,
    ADD COLUMN IF NOT EXISTS request_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER time_per_output_token,
    ADD COLUMN IF NOT EXISTS queue_duration Map(UInt16, UInt64) CODEC(ZSTD(1)) AFTER request_duration;
