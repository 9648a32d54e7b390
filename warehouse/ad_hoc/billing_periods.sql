-- Access: shared
-- Counts or copies the closings of periods, which are all tenants'.
$read FROM billing_periods
