-- Access: operator
-- Senders of single requests by workload, each with the application that it names, of workloads with several of them.
SELECT
    of_cluster, of_workload,
    arraySort(groupArray({reporters:UInt16})((sender, application, toInt64(calls)))) AS reporters
FROM
(
    SELECT
        toString(r.cluster) AS of_cluster, toString(r.workload) AS of_workload,
        toString(r.sender) AS sender, toString(r.application) AS application, uniq(r.request_id, r.t_end) AS calls
    FROM request_energy AS r
    WHERE r.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND r.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND r.deleted = 0 AND r.sender != ''
    GROUP BY of_cluster, of_workload, sender, application
    ORDER BY calls DESC
)
GROUP BY of_cluster, of_workload
HAVING length(reporters) > 1
ORDER BY arraySum(reporter -> reporter.3, reporters) DESC, of_cluster, of_workload
LIMIT {limit:UInt32}
