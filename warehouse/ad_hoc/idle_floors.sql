-- Access: shared
-- Counts or copies a reference table.
$read FROM idle_floors
