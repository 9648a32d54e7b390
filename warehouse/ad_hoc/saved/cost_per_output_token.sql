-- Money per 1,000,000 completion (output) tokens by model: all of the energy, over output tokens with measured energy.
SELECT
    u.model AS model, u.currency AS currency, sumIf(u.completion_tokens, u.method != 'unmetered') AS output_tokens,
    if(countIf(isNull(u.cost) AND u.missing != 'measured energy') > 0 OR output_tokens = 0, NULL,
        round(toFloat64(sum(u.cost)) * 1e6 / output_tokens, 6)) AS money_per_million
FROM usage_hour AS u
WHERE u.model != ''
GROUP BY model, currency
ORDER BY model, currency
