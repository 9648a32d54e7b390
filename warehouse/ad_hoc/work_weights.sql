-- Access: shared
-- Counts or copies a reference table.
$read FROM work_weights
