-- Access: internal
-- Running fenced writes of one log on the server: their id, and their text, which names partition and epoch.
SELECT query_id, query
FROM system.processes
WHERE query_kind = 'Insert' AND position(query, {mark:String}) > 0
