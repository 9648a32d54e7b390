-- Access: tenant
-- The final window of a tenant that contains an instant, or its newest one (at_ms < 0), in epoch milliseconds.
-- The search for the newest begins at the tenant's last day and hour: days lag behind hours, and hours behind windows.
WITH
    (SELECT max(day) FROM ledger_day FINAL WHERE tenant = {tenant:String} AND {at_ms:Int64} < 0) AS last_day,
    (SELECT max(hour) FROM ledger_hour FINAL WHERE tenant = {tenant:String} AND hour >= last_day AND {at_ms:Int64} < 0) AS last_hour
SELECT max(toUnixTimestamp64Milli(l.window_start)) AS window_start, count() AS windows
FROM ledger AS l FINAL
WHERE l.tenant = {tenant:String}
  AND l.final = 1
  AND (({at_ms:Int64} < 0 AND l.window_start >= last_hour)
       OR (l.window_start > fromUnixTimestamp64Milli(greatest({at_ms:Int64} - 3600000, -1), 'UTC')
           AND l.window_start <= fromUnixTimestamp64Milli(greatest({at_ms:Int64}, 0), 'UTC')
           AND toUnixTimestamp64Milli(l.window_start) + l.window_ms > {at_ms:Int64}))
