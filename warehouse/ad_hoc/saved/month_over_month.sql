-- Money, energy and tokens of each tenant by month, with the change of money against the month before in percent.
WITH
    months AS
    (
        SELECT
            toStartOfMonth(u.hour) AS month, u.tenant AS tenant, u.currency AS currency,
            if(countIf(isNull(u.cost) AND u.missing != 'measured energy') > 0, NULL, sum(u.cost)) AS money,
            sum(u.energy_kwh) AS kwh, sum(u.prompt_tokens + u.completion_tokens) AS tokens
        FROM usage_hour AS u
        GROUP BY month, tenant, currency
    )
SELECT
    m.month AS month, m.tenant AS tenant, m.currency AS currency, toDecimal128(round(m.money, 2), 2) AS money,
    round(100 * (toFloat64(m.money) / nullIf(toFloat64(b.money), 0) - 1), 1) AS change_percent,
    toDecimal128(round(m.kwh, 3), 3) AS kwh, m.tokens AS tokens
FROM months AS m
LEFT JOIN months AS b ON b.tenant = m.tenant AND b.currency = m.currency AND b.month = addMonths(m.month, -1)
ORDER BY m.month, m.tenant, m.currency
