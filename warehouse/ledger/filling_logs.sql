-- Access: internal
-- Logs with rows of some clusters in a span, and the sources whose events each holds.
SELECT l.log_id AS log_id, l.rows AS rows, s.sources AS sources
FROM
(
    SELECT log_id, count() AS rows
    FROM ledger FINAL
    WHERE window_start > fromUnixTimestamp64Milli({start_ms:Int64} - 3600000, 'UTC')
      AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY log_id
) AS l
LEFT ANY JOIN (SELECT log_id, groupUniqArray(source) AS sources FROM sources GROUP BY log_id) AS s ON s.log_id = l.log_id
ORDER BY log_id
