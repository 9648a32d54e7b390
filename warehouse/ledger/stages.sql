-- Access: internal
-- Databases whose names begin so.
SELECT name FROM system.databases WHERE startsWith(name, {prefix:String}) ORDER BY name
