-- Margin of each model by closed month: what customers pay, minus what the model costs, without what names no model (idle, fees, taxes).
-- NULL is unknown: a line without an amount, or no line of that side at all, as where the price book has no rate with `side = "revenue"`.
SELECT
    b.period AS period, b.model AS model, b.currency AS currency,
    if(countIf(b.side = 'revenue') = 0 OR countIf(b.side = 'revenue' AND isNull(b.amount)) > 0, NULL,
        sumIf(ifNull(b.amount, toDecimal128(0, 3)), b.side = 'revenue')) AS revenue,
    if(countIf(b.side = 'cost') = 0 OR countIf(b.side = 'cost' AND isNull(b.amount)) > 0, NULL,
        sumIf(ifNull(b.amount, toDecimal128(0, 3)), b.side = 'cost')) AS cost,
    revenue - cost AS margin,
    if(revenue > 0, round(100 * toFloat64(margin) / toFloat64(revenue), 1), NULL) AS margin_percent,
    max(b.simulated) AS simulated
FROM bill_lines AS b
WHERE b.model != ''
GROUP BY period, model, currency
ORDER BY period, model, currency
