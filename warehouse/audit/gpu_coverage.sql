-- Access: operator
-- Covered time of each device (GPU, host or meter at the wall) in this span, and its gaps: between a window and the one before it (`gaps`), and inside
-- windows that are covered in part (`short`). A GPU covers at most its window, so that an overlap cannot hide a gap. A
-- GPU's first and last window of the span are returned too: the caller, which adds spans up, knows the windows beside
-- them.
-- `evidence` has energy and time by method (a window has the weakest evidence of its intervals: 0 counter, 1 integrated,
-- above 1 estimated), and the time that a workload occupied the GPU: the order of evidence.py.
-- `hardware` tells devices that are no GPUs.
-- It uses arrays, one per GPU, because grouping by (GPU, window) takes several times as long. Several rows of one
-- window (of several workloads, or late ones) become one, by differences of the running total where the window changes.
SELECT
    cluster, node, gpu_uuid, hardware, evidence,
    t[1] AS first_ms, t[-1] AS last_ms, length_ms[1] AS first_length_ms, length_ms[-1] AS last_length_ms,
    arraySum(covered) AS covered_ms, covered[1] AS first_covered_ms, covered[-1] AS last_covered_ms,
    arraySlice(arraySort(arrayFilter(gap -> gap.1 < 0, arrayMap(
        (until, next) -> (until - next, until, next),
        arrayMap((start, length) -> start + length, arrayPopBack(t), arrayPopBack(length_ms)), arrayPopFront(t)))),
        1, {worst:UInt16}) AS gaps,
    arraySlice(arraySort(arrayFilter(part -> part.1 < 0, arrayMap(
        (covered_part, length, start) -> (covered_part - length, start, start + length), covered, length_ms, t))),
        1, {worst:UInt16}) AS short
FROM
(
    SELECT
        cluster, node, gpu_uuid, hardware, evidence, t, length_ms,
        arrayMap((total, before, length) -> least(total - before, length),
                 running, arrayPushFront(arrayPopBack(running), 0), length_ms) AS covered
    FROM
    (
        SELECT
            cluster, node, gpu_uuid, hardware, evidence,
            arrayFilter((x, last) -> last, tupleElement(windows, 1), ends) AS t,
            arrayFilter((x, last) -> last, arrayCumSum(tupleElement(windows, 2)), ends) AS running,
            arrayFilter((x, last) -> last, tupleElement(windows, 3), ends) AS length_ms
        FROM
        (
            SELECT
                cluster, node, gpu_uuid, hardware, evidence, windows,
                arrayMap((t, next) -> t != next,
                         tupleElement(windows, 1), arrayPushBack(arrayPopFront(tupleElement(windows, 1)), -1)) AS ends
            FROM
            (
                SELECT
                    cluster, node, gpu_uuid, toString(max(g.hardware)) AS hardware,
                    [sumIf(toInt128(energy_uj), method = 0), sumIf(covered_ms, method = 0),
                     sumIf(toInt128(energy_uj), method = 1), sumIf(covered_ms, method = 1),
                     sumIf(toInt128(energy_uj), method > 1), sumIf(covered_ms, method > 1),
                     sumIf(covered_ms, NOT startsWith(workload, '~'))] AS evidence,
                    arraySort(groupArray((toUnixTimestamp64Milli(window_start), covered_ms, window_ms::Int64))) AS windows
                FROM gpu_energy AS g FINAL
                WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
                  AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
                GROUP BY cluster, node, gpu_uuid
            )
        )
    )
)
