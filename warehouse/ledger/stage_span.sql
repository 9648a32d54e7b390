-- Access: internal
-- Span, window length and hours of a stage's ledger.
SELECT
    count() AS rows, max(l.window_ms) AS window_ms,
    min(toUnixTimestamp64Milli(window_start)) AS start_ms, max(toUnixTimestamp64Milli(window_start)) + max(l.window_ms) AS end_ms,
    groupUniqArray(intDiv(toUnixTimestamp64Milli(window_start), 3600000) * 3600000) AS hours
FROM $stage.ledger AS l FINAL
