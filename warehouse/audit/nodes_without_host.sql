-- Access: operator
-- Clusters of which only some nodes have energy of their host or wall, in the last hour of the period that has any
-- energy: how many nodes there are, and how many have energy of GPUs alone. One hour, because it is a short read.
WITH
(
    SELECT max(hour) FROM ledger_hour FINAL
    WHERE hour >= toStartOfHour(fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC'))
      AND hour < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
) AS last_hour
SELECT toString(of_cluster) AS cluster, count() AS nodes, countIf(NOT has_more) AS nodes_without
FROM
(
    SELECT $cluster{cluster} AS of_cluster, node, max($part{hardware} != 'gpu') AS has_more
    FROM gpu_energy FINAL
    WHERE window_start >= last_hour AND window_start < last_hour + INTERVAL 1 HOUR
      AND $cluster_in{cluster}
    GROUP BY of_cluster, node
)
GROUP BY cluster
HAVING nodes_without > 0 AND nodes_without < nodes
ORDER BY cluster
