-- Access: internal
-- The table that marks a stage as complete, if it exists.
SELECT name FROM system.tables WHERE database = {database:String} AND name = {table:String}
