-- Access: internal
-- How many events of some producers' runs are stored and final.
SELECT topic, source, epoch, received
FROM sources FINAL
WHERE log_id = {log_id:String} AND epoch IN {epochs:Array(UInt64)}
