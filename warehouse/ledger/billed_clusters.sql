-- Access: internal
-- Clusters that bills know.
SELECT DISTINCT cluster
FROM ledger_day FINAL
