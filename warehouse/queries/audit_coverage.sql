-- How much time each GPU's intervals cover: in all, and in its first and last window of the span. Nothing covers more
-- than its window, so that an overlap cannot make up for a gap.
SELECT
    cluster, node, gpu_uuid,
    min(t) AS first_ms, max(t) AS last_ms, argMin(length_ms, t) AS first_length_ms,
    sum(covered) AS covered_ms, argMin(covered, t) AS first_covered_ms, argMax(covered, t) AS last_covered_ms
FROM
(
    SELECT
        cluster, node, gpu_uuid, toUnixTimestamp64Milli(window_start) AS t,
        max(window_ms) AS length_ms, least(sum(covered_ms), length_ms) AS covered
    FROM gpu_energy FINAL
    WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
      AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    GROUP BY cluster, node, gpu_uuid, t
)
GROUP BY cluster, node, gpu_uuid
