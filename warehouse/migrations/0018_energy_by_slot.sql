-- The energy of a day by hour and by quarter of an hour, and of an hour by quarter: prices that change inside a day or an
-- hour are applied to these, so that such a month needs no more rows than one with a single price.
-- An array is empty where it is not known: in rows from before this migration, and where a window reaches over a
-- quarter's end. Such days are read from hours, and such hours from windows.
ALTER TABLE ledger_hour
    ADD COLUMN IF NOT EXISTS quarter_uj Array(Int64) CODEC(ZSTD(1)) COMMENT 'microjoules of each quarter of the hour' AFTER windows;

ALTER TABLE ledger_day
    ADD COLUMN IF NOT EXISTS hour_uj Array(Int64) CODEC(ZSTD(1)) COMMENT 'microjoules of each hour of the UTC day' AFTER windows,
    ADD COLUMN IF NOT EXISTS quarter_uj Array(Int64) CODEC(ZSTD(1)) COMMENT 'microjoules of each quarter of an hour' AFTER hour_uj;
