-- Is every token and request that was counted in the ledger, once? Per window, workload, tenant and model.
SELECT
    sum(abs(prompt)) + sum(abs(cached)) + sum(abs(completion)) AS token_residual,
    sum(abs(requests)) + sum(abs(failures)) AS request_residual
FROM
(
    SELECT
        window_start, cluster, workload, tenant, model,
        sum(p) AS prompt, sum(ca) AS cached, sum(co) AS completion, sum(r) AS requests, sum(f) AS failures
    FROM
    (
        SELECT
            t.window_start AS window_start, t.cluster AS cluster, t.workload AS workload, t.tenant AS tenant, t.model AS model,
            t.prompt_tokens AS p, t.cached_tokens AS ca, t.completion_tokens AS co, t.requests AS r, t.failures AS f,
            m.log_id = '' OR t.window_start < m.final_end AS closed
        FROM token_usage AS t FINAL
        LEFT ANY JOIN (SELECT log_id, log_partition, final_end FROM marks FINAL) AS m
            ON m.log_id = t.log_id AND m.log_partition = t.log_partition
        WHERE t.window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND t.window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')

        UNION ALL

        SELECT
            window_start, cluster, workload, tenant, model,
            -prompt_tokens, -cached_tokens, -completion_tokens, -requests, -failures, 1
        FROM ledger FINAL
        WHERE window_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC')
          AND window_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
          AND final = 1
    )
    GROUP BY window_start, cluster, workload, tenant, model
    HAVING max(closed) = 1
)
