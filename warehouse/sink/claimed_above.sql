-- Access: internal
-- Those of these partitions that another worker has claimed since the claim under this epoch.
SELECT DISTINCT log_partition
FROM claims
WHERE log_id = {log_id:String} AND log_partition IN {log_partitions:Array(UInt16)} AND epoch > {epoch:UInt64}
