-- Access: operator
-- Energy and covered time of each GPU in this span, by the evidence of its windows, and the time that a workload
-- occupied it. A window has the weakest evidence of its intervals: 0 counter, 1 integrated, 2 estimated.
SELECT
    cluster, node, gpu_uuid,
    max(toUnixTimestamp64Milli(window_start) + window_ms) AS end_ms,
    sumIf(toInt128(energy_uj), method = 0) AS counter_uj, sumIf(covered_ms, method = 0) AS counter_ms,
    sumIf(toInt128(energy_uj), method = 1) AS integrated_uj, sumIf(covered_ms, method = 1) AS integrated_ms,
    sumIf(toInt128(energy_uj), method > 1) AS estimated_uj, sumIf(covered_ms, method > 1) AS estimated_ms,
    sumIf(covered_ms, NOT startsWith(workload, '~')) AS bound_ms
FROM gpu_energy FINAL
WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
GROUP BY cluster, node, gpu_uuid
