-- Access: operator
-- Windows with late requests that were stored longer than max_age_ms after the window's end: tokens without and with
-- all late requests of the window, and their senders. Single requests say when they were stored; other facts do not.
SELECT
    toUnixTimestamp64Milli(start) AS window_start_ms, toString(of_cluster) AS cluster,
    toString(of_workload) AS workload, senders, late_requests, toInt64(before) AS tokens_before,
    toInt64(after) AS tokens_after, stored
FROM
(
    SELECT
        window_start AS start, cluster AS of_cluster, workload AS of_workload,
        arraySort(groupUniqArrayIf(8)(toString(sender), late_id != 0)) AS senders,
        uniqExactIf((tenant, request_id, t_end, late_id), late_id != 0) AS late_requests,
        sumIf(toInt128(prompt_tokens + completion_tokens), late_id = 0) AS before,
        sum(toInt128(prompt_tokens + completion_tokens)) AS after,
        toInt64(maxIf(toUnixTimestamp(stored_at), late_id != 0)) * 1000 AS stored
    FROM request_energy FINAL
    WHERE (window_start, cluster, workload) IN
    (
        SELECT window_start, cluster, workload FROM request_energy
        WHERE late_id != 0 AND window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND toUnixTimestamp(stored_at) * 1000 > toUnixTimestamp64Milli(window_start) + window_ms + {max_age_ms:Int64}
        GROUP BY window_start, cluster, workload
        ORDER BY window_start DESC
        LIMIT {limit:UInt32}
    )
    AND window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
    AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY window_start, cluster, workload
)
WHERE late_requests > 0
ORDER BY window_start_ms DESC, cluster, workload
