-- Access: shared
-- Ends of the newest final window and of the newest window at all, in epoch milliseconds; 0 in an empty ledger.
-- ledger_hour bounds the scan: it can only lag behind. If it alone has rows, its last hour counts as final. Its last
-- live hour is searched `back_ms` before the last stored one, which ClickHouse reads from the parts' metadata (`hours`
-- = 0: none there, search further back).
WITH
    (SELECT max(hour) FROM ledger_hour) AS last_stored,
    (
        SELECT (max(hour), count())
        FROM ledger_hour
        WHERE deleted = 0
          AND hour > fromUnixTimestamp64Milli(greatest(toUnixTimestamp64Milli(last_stored) - {back_ms:Int64}, -1), 'UTC')
    ) AS live,
    live.1 AS last_hour,
    live.2 AS live_hours
SELECT
    live_hours AS hours,
    maxIf(toUnixTimestamp64Milli(window_start) + window_ms, final = 1) AS ledger_end,
    if(ledger_end = 0 AND live_hours > 0, toUnixTimestamp64Milli(last_hour) + 3600000, ledger_end) AS final_end,
    greatest(max(toUnixTimestamp64Milli(window_start) + window_ms), final_end) AS window_end
FROM ledger
WHERE deleted = 0 AND window_start >= last_hour AND (live_hours > 0 OR {furthest:UInt8} = 1)
