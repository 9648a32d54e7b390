-- Access: operator
-- Compares tokens and requests with the ledger, per window, workload, tenant and model. As in energy.sql, windows count
-- before their partition's checkpoint, and are `restating` where a late fact may not be restated yet.
SELECT
    sumIf(tokens_off, NOT moving) AS token_residual,
    sumIf(requests_off, NOT moving) AS request_residual,
    countIf(tokens_off + requests_off > 0 AND moving) AS restating,
    count(DISTINCT if(tokens_off + requests_off > 0 AND NOT moving, (window_start, cluster, workload), NULL)) AS unbalanced,
    groupUniqArrayIf({worst:UInt16})(
        (toUnixTimestamp64Milli(window_start), cluster, workload), tokens_off + requests_off > 0 AND NOT moving) AS worst
FROM
(
    SELECT
        s.window_start AS window_start, s.cluster AS cluster, s.workload AS workload,
        arraySum(arrayMap(t -> abs(t), sumForEach(tokens))) AS tokens_off, abs(sum(r)) + abs(sum(f)) AS requests_off,
        max(m.log_id != '' AND late > greatest(m.tokens_offset, 0)) AS moving
    FROM
    (
        SELECT
            window_start, cluster, workload, tenant, model, log_id, log_partition,
            [$tokens{@}] AS tokens, requests AS r, failures AS f, late_id AS late
        FROM token_usage FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')

        UNION ALL

        SELECT
            window_start, cluster, workload, tenant, model, log_id, log_partition,
            [$tokens{-@}], -requests, -failures, 0
        FROM ledger FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND final = 1
    ) AS s
    LEFT ANY JOIN (SELECT log_id, log_partition, final_end, tokens_offset FROM marks FINAL) AS m
        ON m.log_id = s.log_id AND m.log_partition = s.log_partition
    WHERE m.log_id = '' OR s.window_start < m.final_end
    GROUP BY s.window_start, s.cluster, s.workload, s.tenant, s.model
)
