-- Access: operator
-- Time of GPUs, in milliseconds, by workload, hardware, owner and class of time. Hosts and walls are no GPUs.
WITH {starts:Array(Int64)} AS starts
SELECT
    toString($cluster{f.cluster}) AS cluster, toString(f.workload) AS workload, toString(f.hardware) AS hardware,
    toString(f.owner) AS owner,
    transform(roundDown(toUnixTimestamp64Milli(f.window_start), starts), starts, {classes:Array(Int64)}) AS number,
    sum(toInt128(f.covered_ms)) AS covered_ms
FROM gpu_energy AS f FINAL
WHERE f.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
  AND f.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
  AND $part{f.hardware} = 'gpu'
GROUP BY ALL
HAVING covered_ms != 0
ORDER BY cluster, workload, hardware, owner, number
LIMIT {limit:UInt32}
