-- The time that requests ran in a window: their work where none of the window's requests has tokens (images, audio,
-- embeddings of servers that count none). Rows stored before have 0: their windows keep the split that they have.
ALTER TABLE token_usage ADD COLUMN IF NOT EXISTS request_ms Int64 CODEC(T64, ZSTD(1)) COMMENT 'milliseconds that requests ran, summed over them' AFTER completion_mtok;
ALTER TABLE request_energy ADD COLUMN IF NOT EXISTS request_ms Int64 CODEC(T64, ZSTD(1)) AFTER completion_mtok;
