-- Access: shared
-- Start of the oldest and of the newest stored window, in epoch milliseconds. Read from the parts' extremes.
SELECT toUnixTimestamp64Milli(min(window_start)) AS oldest, toUnixTimestamp64Milli(max(window_start)) AS newest
FROM $table
