-- What the log lost, and what it brought twice, of producers' runs that were still heard from in the period.
SELECT
    sum(abs(toInt128(last_seq) + 1 - toInt128(received))) AS sequence_gaps,
    sum(toInt128(duplicates)) AS duplicates
FROM sources FINAL
WHERE last_event >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
