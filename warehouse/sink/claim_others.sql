-- Access: internal
-- The greatest epoch that anybody else claimed one of these partitions under; 0: nobody.
SELECT max(epoch) AS epoch
FROM claims
WHERE log_id = {log_id:String} AND log_partition IN {log_partitions:Array(UInt16)} AND owner != {owner:String}
