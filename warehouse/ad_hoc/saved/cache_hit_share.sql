-- Share of prompt tokens that came from a cache, by tenant and model.
SELECT
    tenant, model, sum(t.prompt_tokens) AS prompt_tokens, sum(t.cached_tokens) AS cached_tokens,
    round(100 * sum(t.cached_tokens) / nullIf(sum(t.prompt_tokens), 0), 1) AS cached_percent
FROM tokens_hour AS t
GROUP BY tenant, model
HAVING sum(t.prompt_tokens) > 0
ORDER BY tenant, model
