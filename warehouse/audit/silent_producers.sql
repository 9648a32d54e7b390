-- Access: operator
-- Producers without an event for `silent_ms` before the period's end, or before the newest event of any producer on
-- their log and topic, whichever was first. Those that report on a clock fell silent: heartbeats are events, so a live
-- one always says something. Those that pass on calls alone (`calls_only`) are idle: without calls they say nothing.
SELECT
    countIf(NOT waits) AS silent, countIf(waits) AS idle,
    groupArraySortedIf({worst:UInt16})((last_ms, topic, source, until_ms), NOT waits) AS worst,
    groupArraySortedIf({worst:UInt16})((last_ms, topic, source, until_ms), waits) AS idle_worst
FROM
(
    SELECT
        topic, source, toUnixTimestamp64Milli(max(last_event)) AS last_ms,
        least({end_ms:Int64}, max(last_ms) OVER (PARTITION BY log_id, topic)) AS until_ms,
        match(source, {calls_only:String}) AS waits
    FROM sources FINAL
    GROUP BY log_id, topic, source
)
WHERE last_ms >= {start_ms:Int64} AND last_ms < until_ms - {silent_ms:Int64}
