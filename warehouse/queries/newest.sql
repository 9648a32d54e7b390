-- Ends of the newest final window and of the newest window at all, in epoch milliseconds; 0 in an empty ledger.
-- ledger_hour bounds the scan: it only ever lags behind. Where it alone has rows, its last hour counts as final.
WITH
    (SELECT max(hour) FROM ledger_hour WHERE deleted = 0) AS last_hour,
    (SELECT count() FROM ledger_hour WHERE deleted = 0) AS hours
SELECT
    maxIf(toUnixTimestamp64Milli(window_start) + window_ms, final = 1) AS ledger_end,
    if(ledger_end = 0 AND hours > 0, toUnixTimestamp64Milli(last_hour) + 3600000, ledger_end) AS final_end,
    greatest(max(toUnixTimestamp64Milli(window_start) + window_ms), final_end) AS window_end
FROM ledger
WHERE deleted = 0 AND window_start >= last_hour
