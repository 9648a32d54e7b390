-- Access: internal
-- Removes what an interrupted closing kept of prices under a step that does not count.
ALTER TABLE closed_prices DELETE WHERE period = {closed_period:String} AND step = {closed_step:UInt32}
SETTINGS mutations_sync = 1
