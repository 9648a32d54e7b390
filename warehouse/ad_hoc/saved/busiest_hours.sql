-- The 24 hours of the day (UTC) by mean tokens and energy of an hour, in the ledger's newest 30 days.
WITH
    (SELECT max(hour) FROM usage_hour) AS newest,
    hours AS
    (
        SELECT u.hour AS hour, sum(u.prompt_tokens + u.completion_tokens) AS tokens, sum(u.energy_kwh) AS kwh
        FROM usage_hour AS u
        WHERE u.hour > newest - INTERVAL 30 DAY
        GROUP BY hour
    )
SELECT toHour(hour) AS hour_of_day, count() AS hours, round(avg(tokens)) AS mean_tokens, round(avg(toFloat64(kwh)), 3) AS mean_kwh
FROM hours
GROUP BY hour_of_day
ORDER BY mean_tokens DESC, hour_of_day
