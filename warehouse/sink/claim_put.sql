-- Access: internal
-- One takeover's claim to some partitions, under one epoch. Repeating it changes nothing.
INSERT INTO claims (log_id, log_partition, epoch, owner)
SELECT {log_id:String}, arrayJoin({log_partitions:Array(UInt16)}), {epoch:UInt64}, {owner:String}
