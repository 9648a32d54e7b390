-- What kind of tokens the prompt and the completion were, and how many of them somebody estimated because nobody reported
-- them. Rows stored before have 0, which says nothing.

ALTER TABLE token_usage
    ADD COLUMN IF NOT EXISTS cache_write_tokens Int64 CODEC(T64, ZSTD(1)) AFTER completion_tokens,
    ADD COLUMN IF NOT EXISTS audio_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER cache_write_tokens,
    ADD COLUMN IF NOT EXISTS image_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER audio_prompt_tokens,
    ADD COLUMN IF NOT EXISTS estimated_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER image_prompt_tokens,
    ADD COLUMN IF NOT EXISTS reasoning_tokens Int64 CODEC(T64, ZSTD(1)) AFTER estimated_prompt_tokens,
    ADD COLUMN IF NOT EXISTS accepted_prediction_tokens Int64 CODEC(T64, ZSTD(1)) AFTER reasoning_tokens,
    ADD COLUMN IF NOT EXISTS rejected_prediction_tokens Int64 CODEC(T64, ZSTD(1)) AFTER accepted_prediction_tokens,
    ADD COLUMN IF NOT EXISTS audio_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER rejected_prediction_tokens,
    ADD COLUMN IF NOT EXISTS image_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER audio_completion_tokens,
    ADD COLUMN IF NOT EXISTS estimated_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER image_completion_tokens;

ALTER TABLE request_energy
    ADD COLUMN IF NOT EXISTS cache_write_tokens Int64 CODEC(T64, ZSTD(1)) AFTER completion_tokens,
    ADD COLUMN IF NOT EXISTS audio_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER cache_write_tokens,
    ADD COLUMN IF NOT EXISTS image_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER audio_prompt_tokens,
    ADD COLUMN IF NOT EXISTS estimated_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER image_prompt_tokens,
    ADD COLUMN IF NOT EXISTS reasoning_tokens Int64 CODEC(T64, ZSTD(1)) AFTER estimated_prompt_tokens,
    ADD COLUMN IF NOT EXISTS accepted_prediction_tokens Int64 CODEC(T64, ZSTD(1)) AFTER reasoning_tokens,
    ADD COLUMN IF NOT EXISTS rejected_prediction_tokens Int64 CODEC(T64, ZSTD(1)) AFTER accepted_prediction_tokens,
    ADD COLUMN IF NOT EXISTS audio_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER rejected_prediction_tokens,
    ADD COLUMN IF NOT EXISTS image_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER audio_completion_tokens,
    ADD COLUMN IF NOT EXISTS estimated_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER image_completion_tokens;

ALTER TABLE ledger
    ADD COLUMN IF NOT EXISTS cache_write_tokens Int64 CODEC(T64, ZSTD(1)) AFTER completion_tokens,
    ADD COLUMN IF NOT EXISTS audio_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER cache_write_tokens,
    ADD COLUMN IF NOT EXISTS image_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER audio_prompt_tokens,
    ADD COLUMN IF NOT EXISTS estimated_prompt_tokens Int64 CODEC(T64, ZSTD(1)) AFTER image_prompt_tokens,
    ADD COLUMN IF NOT EXISTS reasoning_tokens Int64 CODEC(T64, ZSTD(1)) AFTER estimated_prompt_tokens,
    ADD COLUMN IF NOT EXISTS accepted_prediction_tokens Int64 CODEC(T64, ZSTD(1)) AFTER reasoning_tokens,
    ADD COLUMN IF NOT EXISTS rejected_prediction_tokens Int64 CODEC(T64, ZSTD(1)) AFTER accepted_prediction_tokens,
    ADD COLUMN IF NOT EXISTS audio_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER rejected_prediction_tokens,
    ADD COLUMN IF NOT EXISTS image_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER audio_completion_tokens,
    ADD COLUMN IF NOT EXISTS estimated_completion_tokens Int64 CODEC(T64, ZSTD(1)) AFTER image_completion_tokens;

ALTER TABLE ledger_hour
    ADD COLUMN IF NOT EXISTS cache_write_tokens Int64 CODEC(T64, LZ4) AFTER completion_tokens,
    ADD COLUMN IF NOT EXISTS audio_prompt_tokens Int64 CODEC(T64, LZ4) AFTER cache_write_tokens,
    ADD COLUMN IF NOT EXISTS image_prompt_tokens Int64 CODEC(T64, LZ4) AFTER audio_prompt_tokens,
    ADD COLUMN IF NOT EXISTS estimated_prompt_tokens Int64 CODEC(T64, LZ4) AFTER image_prompt_tokens,
    ADD COLUMN IF NOT EXISTS reasoning_tokens Int64 CODEC(T64, LZ4) AFTER estimated_prompt_tokens,
    ADD COLUMN IF NOT EXISTS accepted_prediction_tokens Int64 CODEC(T64, LZ4) AFTER reasoning_tokens,
    ADD COLUMN IF NOT EXISTS rejected_prediction_tokens Int64 CODEC(T64, LZ4) AFTER accepted_prediction_tokens,
    ADD COLUMN IF NOT EXISTS audio_completion_tokens Int64 CODEC(T64, LZ4) AFTER rejected_prediction_tokens,
    ADD COLUMN IF NOT EXISTS image_completion_tokens Int64 CODEC(T64, LZ4) AFTER audio_completion_tokens,
    ADD COLUMN IF NOT EXISTS estimated_completion_tokens Int64 CODEC(T64, LZ4) AFTER image_completion_tokens;

ALTER TABLE ledger_day
    ADD COLUMN IF NOT EXISTS cache_write_tokens Int64 CODEC(T64, LZ4) AFTER completion_tokens,
    ADD COLUMN IF NOT EXISTS audio_prompt_tokens Int64 CODEC(T64, LZ4) AFTER cache_write_tokens,
    ADD COLUMN IF NOT EXISTS image_prompt_tokens Int64 CODEC(T64, LZ4) AFTER audio_prompt_tokens,
    ADD COLUMN IF NOT EXISTS estimated_prompt_tokens Int64 CODEC(T64, LZ4) AFTER image_prompt_tokens,
    ADD COLUMN IF NOT EXISTS reasoning_tokens Int64 CODEC(T64, LZ4) AFTER estimated_prompt_tokens,
    ADD COLUMN IF NOT EXISTS accepted_prediction_tokens Int64 CODEC(T64, LZ4) AFTER reasoning_tokens,
    ADD COLUMN IF NOT EXISTS rejected_prediction_tokens Int64 CODEC(T64, LZ4) AFTER accepted_prediction_tokens,
    ADD COLUMN IF NOT EXISTS audio_completion_tokens Int64 CODEC(T64, LZ4) AFTER rejected_prediction_tokens,
    ADD COLUMN IF NOT EXISTS image_completion_tokens Int64 CODEC(T64, LZ4) AFTER audio_completion_tokens,
    ADD COLUMN IF NOT EXISTS estimated_completion_tokens Int64 CODEC(T64, LZ4) AFTER image_completion_tokens;
