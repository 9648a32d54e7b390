-- Access: internal
-- Workloads with rows, deleted ones included, in the hours that a stage's ledger fills.
SELECT DISTINCT cluster, workload
FROM ledger
WHERE (cluster, intDiv(toUnixTimestamp64Milli(window_start), 3600000)) IN
    (SELECT cluster, intDiv(toUnixTimestamp64Milli(window_start), 3600000) FROM $stage.ledger)
