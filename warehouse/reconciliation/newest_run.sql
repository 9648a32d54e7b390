-- Access: operator
-- The newest run and its findings; the run itself comes first.
WITH (SELECT (max(until), argMax(version, (until, version))) FROM reconciliation_findings) AS newest
SELECT
    toUnixTimestamp64Milli(until) AS until, cluster, workload, tenant, kind, source, quantities,
    toUnixTimestamp64Milli(since) AS since, first_source, second_source, first_amount, second_amount, says, comparisons,
    toInt64(version) AS run_at
FROM reconciliation_findings AS f FINAL
WHERE f.until = newest.1 AND f.version = newest.2
ORDER BY kind != '', cluster, workload, tenant, kind, source, second_source
LIMIT {limit:UInt32}
