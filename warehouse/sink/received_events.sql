-- Access: internal
-- Number of stored, final events of some producers' runs.
SELECT topic, source, epoch, received
FROM sources FINAL
WHERE log_id = {log_id:String} AND epoch IN {epochs:Array(UInt64)}
