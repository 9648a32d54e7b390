-- Access: operator
-- Hours in which a workload has requests and no measured energy (`apart`), both (`met`), or energy of GPUs and no
-- request (`alone`), as spans of hours [(first, last + 1)]; of workloads with any of the first or the last. Tokens,
-- requests and models are those of the hours apart. Of a workload whose server counts no requests, tokens tell.
WITH
    hours -> arraySlice(arrayMap(
        part -> (part[1], part[-1] + 1),
        arraySplit((hour, step) -> step != 1, arraySort(hours), arrayDifference(arraySort(hours)))
    ), -{spans:UInt16}) AS spans_of
SELECT
    of_cluster, of_workload,
    sumIf(hour_tokens, is_apart) AS tokens, sumIf(hour_requests, is_apart) AS requests,
    spans_of(groupArrayIf(hour_no, is_apart)) AS apart,
    spans_of(groupArrayIf(hour_no, is_served AND metered)) AS met,
    spans_of(groupArrayIf(hour_no, NOT is_served AND gpu_uj > 0)) AS alone,
    arraySort(groupUniqArrayArrayIf(16)(hour_models, is_apart)) AS models
FROM
(
    SELECT
        *, sum(hour_requests) OVER (PARTITION BY of_cluster, of_workload) = 0 AS counts_none,
        hour_requests > 0 OR (counts_none AND hour_tokens > 0) AS is_served, is_served AND NOT metered AS is_apart
    FROM
    (
        SELECT
            intDiv(toUnixTimestamp64Milli(t.$time), 3600000) AS hour_no,
            toString(t.cluster) AS of_cluster, toString(t.workload) AS of_workload,
            sum(t.prompt_tokens + t.completion_tokens) AS hour_tokens, sum(t.requests) AS hour_requests,
            max(t.method != 3) AS metered,
            sumIf(toInt128(t.active_uj) + t.idle_uj, $part{t.hardware} = 'gpu') AS gpu_uj,
            groupUniqArrayIf(16)(toString(t.model), t.model != '') AS hour_models
        FROM $table AS t FINAL
        WHERE t.$time >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND t.$time < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND $only
          AND NOT startsWith(t.workload, '~') AND NOT startsWith(t.workload, {external:String})
        GROUP BY hour_no, of_cluster, of_workload
    )
)
GROUP BY of_cluster, of_workload
HAVING notEmpty(apart) OR notEmpty(alone)
ORDER BY notEmpty(apart) DESC, tokens DESC, of_cluster, of_workload
LIMIT {limit:UInt32}
