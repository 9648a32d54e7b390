-- Access: internal
-- Those of some clusters that have any row in the ledger, including provisional ones.
SELECT DISTINCT cluster
FROM ledger
WHERE cluster IN {names:Array(String)}
