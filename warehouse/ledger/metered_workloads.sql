-- Access: internal
-- Workloads (and nodes with unallocated GPUs) whose charges of a window are stored, and their partition's checkpoint
-- too: so are those of all windows before it.
SELECT DISTINCT l.cluster AS cluster, l.workload AS workload
FROM ledger AS l FINAL
INNER JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
    ON m.log_id = l.log_id AND m.log_partition = l.log_partition
WHERE l.window_start = fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') AND l.final = 1 AND l.window_start < m.final_end
