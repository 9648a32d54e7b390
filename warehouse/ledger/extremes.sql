-- Access: shared
-- Starts of the oldest and the newest stored window, in epoch milliseconds. ClickHouse reads them from the parts'
-- metadata.
SELECT toUnixTimestamp64Milli(min(window_start)) AS oldest, toUnixTimestamp64Milli(max(window_start)) AS newest
FROM $table
