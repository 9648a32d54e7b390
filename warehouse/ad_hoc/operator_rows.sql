-- Access: operator
-- Counts or copies a table whose rows belong to no tenant.
$read FROM $table
