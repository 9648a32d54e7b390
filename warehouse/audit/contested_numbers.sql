-- Access: operator
-- Runs of producers of which messages are dead letters because their numbers were taken, in the period by event time:
-- the number of messages, and the runs with most of them.
SELECT
    sum(taken) AS messages,
    count() AS runs,
    groupArraySorted({worst:UInt16})(
        (-toInt64(taken), topic, source, epoch, first_seq, last_seq, first_ms, last_ms)) AS worst
FROM
(
    SELECT
        topic, source, epoch, sum(contested) AS taken, min(contested_first_seq) AS first_seq,
        max(contested_last_seq) AS last_seq, toUnixTimestamp64Milli(min(contested_first)) AS first_ms,
        toUnixTimestamp64Milli(max(contested_last)) AS last_ms
    FROM sources FINAL
    WHERE contested > 0 AND contested_last >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
        AND contested_first < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY log_id, topic, source, epoch
)
