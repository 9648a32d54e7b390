-- Access: internal
-- The greatest version of any row of a table that people edit; 0 in an empty one.
SELECT max(version) AS version
FROM $table
