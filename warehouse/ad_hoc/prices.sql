-- Access: shared
-- Counts or copies a reference table.
$read FROM prices
