-- Access: internal
-- Deletes the rows of other logs from the windows that a stage's ledger fills. Windows of other lengths count where they
-- overlap. A stage's own rows are stored before, so that a window is never without.
INSERT INTO $table
SELECT * REPLACE (version + 1 AS version, 1 AS deleted)
FROM $table FINAL
WHERE window_start > fromUnixTimestamp64Milli({start_ms:Int64} - 3600000, 'UTC')
  AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND cluster IN (SELECT cluster FROM $stage.ledger)
  AND log_id NOT IN (SELECT log_id FROM $stage.ledger)
  AND (cluster, window_start, window_ms) IN
  (
      SELECT r.cluster, r.window_start, r.window_ms
      FROM
      (
          SELECT DISTINCT cluster, window_start, window_ms
          FROM $table
          WHERE window_start > fromUnixTimestamp64Milli({start_ms:Int64} - 3600000, 'UTC')
            AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      ) AS r
      ARRAY JOIN range(
          toUInt64(intDiv(toUnixTimestamp64Milli(r.window_start), {window_ms:Int64})),
          toUInt64(intDiv(toUnixTimestamp64Milli(r.window_start) + r.window_ms - 1, {window_ms:Int64}) + 1)) AS number
      WHERE (r.cluster, number) IN
          (SELECT cluster, toUInt64(intDiv(toUnixTimestamp64Milli(window_start), {window_ms:Int64})) FROM $stage.ledger FINAL)
  )
