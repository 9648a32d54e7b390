-- Access: internal
-- Which of some clusters have any row in the ledger, provisional ones too.
SELECT DISTINCT cluster
FROM ledger
WHERE cluster IN {names:Array(String)}
