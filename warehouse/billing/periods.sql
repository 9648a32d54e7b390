-- Access: shared
-- Closings and reopenings of periods: no rows of a tenant.
SELECT
    period, step, state,
    toUnixTimestamp64Milli(period_start) AS period_start, toUnixTimestamp64Milli(period_end) AS period_end, time_zone,
    toUnixTimestamp64Milli(at) AS at, actor, reason, book_version, lines, lines_sha256, audit_head, cluster_aliases
FROM billing_periods FINAL
ORDER BY period, step
