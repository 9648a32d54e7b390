-- Access: internal
-- Removes what an interrupted closing kept of tenants under a step that does not count.
ALTER TABLE closed_tenants DELETE WHERE period = {closed_period:String} AND step = {closed_step:UInt32}
SETTINGS mutations_sync = 1
