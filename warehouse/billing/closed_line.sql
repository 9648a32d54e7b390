-- Access: tenant
-- Closings (`PERIOD STEP`) that have a line of this id, the newest first.
SELECT period, step
FROM closed_lines AS b FINAL
WHERE b.line_id = {line_id:String} AND concat(b.period, ' ', toString(b.step)) IN {closings:Array(String)}
  AND (empty({tenants:Array(String)}) OR b.tenant IN {tenants:Array(String)})
ORDER BY period DESC
