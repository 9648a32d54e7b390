-- Access: shared
-- All prices, by kind, cluster and start.
SELECT
    kind, cluster, value, toUnixTimestamp64Milli(valid_from) AS valid_from_ms,
    toUnixTimestamp64Milli(valid_to) AS valid_to_ms, currency, source
FROM prices FINAL
ORDER BY kind, cluster, valid_from
