-- Access: operator
-- Nodes whose host and wall, or two walls, are both in the ledger: what is measured at the wall contains the host. Or
-- GPUs, and a wall that contains them. A window counts if they cover more than all of it together: within one window a
-- node may change from one to the other.
SELECT
    cluster, node, arraySort(groupUniqArrayArray(hardwares)) AS hardwares, count() AS windows,
    min(start_ms) AS first_ms, max(end_ms) AS last_end_ms
FROM
(
    SELECT
        cluster, node, toUnixTimestamp64Milli(window_start) AS start_ms, start_ms + max(window_ms) AS end_ms,
        maxIf(covered_ms, part = 'gpu') AS gpu_ms,
        sumIf(covered_ms, part != 'gpu') AS meters_ms,
        sumIf(covered_ms, $contains_gpus{hardware}) AS whole_ms,
        whole_ms > 0 AND whole_ms + gpu_ms > max(window_ms) AS has_gpus_twice,
        groupUniqArrayIf(toString(hardware), part != 'gpu') AS meters,
        if(has_gpus_twice, groupUniqArray(toString(hardware)), meters) AS hardwares
    FROM (SELECT *, $part{hardware} AS part FROM gpu_energy FINAL
          WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
            AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC'))
    GROUP BY cluster, node, window_start
    HAVING length(hardwares) > 1 AND (has_gpus_twice OR length(meters) > 1 AND meters_ms > max(window_ms))
)
GROUP BY cluster, node
