-- Access: internal
-- Deletes stored copies of these identities except the first. Deleting a copy that was never stored has no effect.
INSERT INTO usage (at, tenant, log_id, log_partition, log_offset, log_row, version, deleted)
SELECT at, tenant, log_id, log_partition, log_offset, log_row, {version:UInt64}, 1
FROM usage_ids FINAL
WHERE (id_hi, id_lo) IN
    (SELECT id.1, id.2 FROM (SELECT arrayJoin(arrayZip({his:Array(UInt64)}, {los:Array(UInt64)})) AS id))
QUALIFY row_number() OVER (
    PARTITION BY id_hi, id_lo ORDER BY log_ms, toString(log_id), log_partition, log_offset, log_row) > 1
