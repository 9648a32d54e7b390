-- Access: tenant
-- Rows of one table, as chargeback.sql adds them up, with their time as `at`, and maybe priced by slot (slots.py).
SELECT
    t.$time AS at, t.tenant AS tenant, $cluster{t.cluster} AS cluster, t.workload AS workload, t.model AS model, t.hardware AS hardware,
    $dimensions{t.@ AS @},
    t.active_uj AS active_uj, t.idle_uj AS idle_uj, t.unallocated_uj AS unallocated_uj,
    $tokens{t.@ AS @}, $latencies{t.@ AS @},
    t.requests AS requests, t.failures AS failures, t.method AS method$slot_columns
FROM $table AS t FINAL
$slot_join
WHERE t.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND t.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND $only
  AND (empty({tenants:Array(String)}) OR t.tenant IN {tenants:Array(String)})
  AND $cluster_in{t.cluster}
  AND $within{t.hardware}
