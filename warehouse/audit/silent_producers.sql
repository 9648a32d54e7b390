-- Access: operator
-- Producers that fell silent in the period: no event for `silent_ms` before its end, or before the newest event of any
-- producer on that log and topic, whichever was first. Heartbeats are events, so a live producer is never silent.
SELECT
    count() AS silent,
    groupArraySorted({worst:UInt16})((last_ms, topic, source, until_ms)) AS worst
FROM
(
    SELECT
        topic, source, toUnixTimestamp64Milli(max(last_event)) AS last_ms,
        least({end_ms:Int64}, max(last_ms) OVER (PARTITION BY log_id, topic)) AS until_ms
    FROM sources FINAL
    GROUP BY log_id, topic, source
)
WHERE last_ms >= {start_ms:Int64} AND last_ms < until_ms - {silent_ms:Int64}
