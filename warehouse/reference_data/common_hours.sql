-- Access: operator
-- Hours in which two clusters both have final rows.
SELECT count() AS hours, toUnixTimestamp64Milli(min(hour)) AS first_ms, toUnixTimestamp64Milli(max(hour)) AS last_ms
FROM
(
    SELECT hour FROM ledger_hour FINAL
    WHERE cluster IN ({alias:String}, {target:String})
    GROUP BY hour
    HAVING uniqExact(cluster) = 2
)
