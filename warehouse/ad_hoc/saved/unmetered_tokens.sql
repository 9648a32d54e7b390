-- Tokens and requests without measured energy, by cluster, workload and tenant: their cost is open.
SELECT
    t.cluster AS cluster, t.workload AS workload, t.tenant AS tenant,
    sum(t.unmetered_tokens) AS tokens, sum(t.unmetered_requests) AS requests,
    round(100 * tokens / nullIf(sum(t.prompt_tokens + t.completion_tokens), 0), 1) AS percent_of_tokens
FROM tokens_hour AS t
GROUP BY cluster, workload, tenant
HAVING tokens > 0 OR requests > 0
ORDER BY tokens DESC, cluster, workload, tenant
