-- Access: internal
-- Sums of the ledger over some workloads and a period: final windows only.
SELECT
    sum(toInt128(l.active_uj)) AS active_uj, sum(toInt128(l.idle_uj)) AS idle_uj, sum(toInt128(l.unallocated_uj)) AS unallocated_uj,
    active_uj + idle_uj + unallocated_uj AS energy_uj,
    $tokens{sum(l.@) AS @},
    sum(l.requests) AS requests,
    sumIf(l.prompt_tokens + l.completion_tokens, method = 3) AS unmetered_tokens
FROM ledger AS l FINAL
WHERE final = 1
    AND cluster IN {clusters:Array(String)} AND workload IN {workloads:Array(String)}
    AND window_start >= fromUnixTimestamp64Milli({start_ms:Int64}) AND window_start < fromUnixTimestamp64Milli({end_ms:Int64})
SETTINGS do_not_merge_across_partitions_select_final = 1
