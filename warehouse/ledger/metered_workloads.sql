-- Access: internal
-- How many workloads (and nodes with GPUs that nobody holds) have final energy in a window.
SELECT uniqExact(cluster, workload) AS n
FROM gpu_energy FINAL
WHERE window_start = fromUnixTimestamp64Milli({start_ms:Int64})
