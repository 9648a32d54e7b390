-- Clusters that bills know.
SELECT DISTINCT cluster
FROM ledger_hour FINAL
