-- Access: tenant
-- Counts or copies tenants' rows of a table.
$read FROM $table WHERE empty({tenants:Array(String)}) OR tenant IN {tenants:Array(String)}
