-- Access: internal
-- The greatest epoch of claims to one of these partitions by other owners; 0 if there are none.
SELECT max(epoch) AS epoch
FROM claims
WHERE log_id = {log_id:String} AND log_partition IN {log_partitions:Array(UInt16)} AND owner != {owner:String}
