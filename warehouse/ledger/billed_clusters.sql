-- Access: internal
-- Clusters with rows in bills.
SELECT DISTINCT cluster
FROM ledger_day FINAL
