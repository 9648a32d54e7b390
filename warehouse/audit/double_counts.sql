-- Access: operator
-- Nodes whose host and wall, or two walls, are both in the ledger: what is measured at the wall contains the host. A
-- window counts if they cover more than all of it together: within one window a node may change from one to the other.
SELECT
    cluster, node, arraySort(groupUniqArrayArray(hardwares)) AS hardwares, count() AS windows,
    min(start_ms) AS first_ms, max(end_ms) AS last_end_ms
FROM
(
    SELECT
        cluster, node, toUnixTimestamp64Milli(window_start) AS start_ms, start_ms + max(window_ms) AS end_ms,
        groupUniqArray(toString(hardware)) AS hardwares
    FROM gpu_energy FINAL
    WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
      AND $part{hardware} != 'gpu'
    GROUP BY cluster, node, window_start
    HAVING length(hardwares) > 1 AND sum(covered_ms) > max(window_ms)
)
GROUP BY cluster, node
