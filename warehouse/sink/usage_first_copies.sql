-- Access: internal
-- Those of these identities of usage rows that have several registered copies, with the place of the first copy.
SELECT
    id_hi, id_lo, first.1 AS log_ms, first.2 AS log_id, first.3 AS log_partition, first.4 AS log_offset, first.5 AS log_row
FROM
(
    SELECT
        id_hi, id_lo,
        min((toUnixTimestamp64Milli(log_ms), toString(log_id), log_partition, log_offset, log_row)) AS first
    FROM usage_ids FINAL
    WHERE (id_hi, id_lo) IN
        (SELECT id.1, id.2 FROM (SELECT arrayJoin(arrayZip({his:Array(UInt64)}, {los:Array(UInt64)})) AS id))
    GROUP BY id_hi, id_lo
    HAVING count() > 1
)
