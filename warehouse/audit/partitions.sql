-- Access: operator
-- Workloads with facts from several partitions of one log in the same hour. A workload has one partition: with two,
-- each makes rows of its own for the same window, and one replaces the other. Read without FINAL, so that a row that
-- was replaced counts for as long as it is there.
SELECT
    toString(of_cluster) AS cluster, toString(of_workload) AS workload, count() AS hours,
    arraySort(groupUniqArrayArray(numbers)) AS partitions
FROM
(
    SELECT
        cluster AS of_cluster, workload AS of_workload, log_id, toStartOfHour(window_start) AS hour,
        groupUniqArray(16)(log_partition) AS numbers
    FROM
    (
        SELECT cluster, workload, log_id, log_partition, window_start FROM gpu_energy
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        UNION ALL
        SELECT cluster, workload, log_id, log_partition, window_start FROM token_usage
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    )
    GROUP BY of_cluster, of_workload, log_id, hour
    HAVING length(numbers) > 1
)
GROUP BY of_cluster, of_workload
ORDER BY hours DESC, cluster, workload
LIMIT {limit:UInt32}
