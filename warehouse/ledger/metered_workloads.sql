-- Access: internal
-- Number of workloads (and nodes with unallocated GPUs) with final energy in a window.
SELECT uniqExact(cluster, workload) AS n
FROM gpu_energy FINAL
WHERE window_start = fromUnixTimestamp64Milli({start_ms:Int64})
