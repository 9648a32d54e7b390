-- Access: operator
-- Pairs of requests of two senders with the same workload, tokens and end, up to `slot_ms`, and how many different
-- counts of tokens they have. With `apart_ms` the ends of each of the `senders` are moved by a time of its own: pairs that
-- are left are chance. Of `sample` slots of time one is looked at.
SELECT
    of_cluster, of_workload, pair.1 AS first, pair.2 AS second, toInt64(sum(pair.3)) AS pairs,
    toInt64(uniqExact(prompt, completion)) AS counts
FROM
(
    SELECT
        of_cluster, of_workload, prompt, completion, arraySort(groupArray(64)((reporter, calls))) AS reporters,
        arrayJoin(arrayFlatten(arrayMap(
            (one, n) -> arrayMap(
                other -> (one.1, other.1, least(one.2, other.2)), arraySlice(reporters, n + 1)
            ),
            reporters, arrayEnumerate(reporters)
        ))) AS pair
    FROM
    (
        SELECT of_cluster, of_workload, reporter, prompt, completion, slot, toInt64(count()) AS calls
        FROM
        (
            SELECT
                toString(r.cluster) AS of_cluster, toString(r.workload) AS of_workload,
                (toString(r.sender), toString(r.application)) AS reporter,
                sum(r.prompt_tokens) AS prompt, sum(r.completion_tokens) AS completion,
                intDiv(
                    toUnixTimestamp64Milli(r.t_end)
                    + {apart_ms:Int64} * toInt64(indexOf({senders:Array(Tuple(String, String))}, reporter) % 61),
                    {slot_ms:Int64}
                ) AS slot
            FROM request_energy AS r FINAL
            WHERE r.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
              AND r.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
              AND has({places:Array(String)}, concat(r.cluster, '/', r.workload))
              AND r.sender != '' AND cityHash64(slot) % {sample:UInt64} = 0
            GROUP BY of_cluster, of_workload, reporter, r.tenant, r.model, r.request_id, r.t_start, r.t_end
        )
        WHERE prompt + completion > 0
        GROUP BY of_cluster, of_workload, reporter, prompt, completion, slot
    )
    GROUP BY of_cluster, of_workload, prompt, completion, slot
    HAVING length(reporters) > 1
)
GROUP BY of_cluster, of_workload, first, second
ORDER BY pairs DESC, of_cluster, of_workload, first, second
LIMIT {limit:UInt32}
