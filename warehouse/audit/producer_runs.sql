-- Access: operator
-- Sequence numbers sent and received, of producers' runs (epochs) with an event since the period's start: totals, and
-- the worst runs by name. A run is one numbering, on whatever partitions of a log it arrived.
SELECT
    count() AS runs,
    sum(missing) AS sequence_gaps,
    sum(repeated) AS duplicates,
    countIf(missing > 0) AS runs_with_gaps,
    groupArraySortedIf({worst:UInt16})(
        (-missing, topic, source, epoch, toUInt64(last) + 1, received, repeated, last_event_ms), missing > 0) AS worst
FROM
(
    SELECT
        topic, source, epoch, max(last_seq) AS last, sum(received) AS received, sum(toInt128(duplicates)) AS repeated,
        abs(toInt128(last) + 1 - toInt128(received)) AS missing, toUnixTimestamp64Milli(max(last_event)) AS last_event_ms
    FROM sources FINAL
    WHERE last_event >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    GROUP BY log_id, topic, source, epoch
    UNION ALL
    -- Usage registers every event. Numbers are counted by a bitmap, because a run may have millions.
    SELECT
        'wattlog.usage.v1' AS topic, source, epoch, max(seq) AS last, groupBitmap(seq) AS received,
        toInt128(count()) - received AS repeated, toInt128(last) + 1 - received AS missing,
        toUnixTimestamp64Milli(max(last_event)) AS last_event_ms
    FROM usage_events FINAL
    GROUP BY log_id, source, epoch
    HAVING last_event_ms >= {start_ms:Int64}
)
