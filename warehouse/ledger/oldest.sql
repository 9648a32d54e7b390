-- Access: shared
-- Start of the hour of the oldest window, in epoch milliseconds; 0 in an empty ledger. Read from the parts' metadata.
SELECT
    (SELECT if(count() = 0, 7258118400000, toUnixTimestamp64Milli(min(hour))) FROM ledger_hour) AS by_hour,
    (SELECT if(count() = 0, 7258118400000, toUnixTimestamp64Milli(min(window_start))) FROM ledger) AS by_window,
    least(by_hour, by_window) AS first,
    if(first = 7258118400000, 0, first - first % 3600000) AS start
