-- Access: internal
-- Fenced writes that the server is at, of one log: their id and their text, which names partition and epoch.
SELECT query_id, query
FROM system.processes
WHERE query_kind = 'Insert' AND position(query, {mark:String}) > 0
