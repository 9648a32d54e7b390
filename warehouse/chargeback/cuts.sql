-- Access: shared
-- Where a period is cut: `in_days` and `in_hours` say that a price changes inside a UTC day or hour; `in_quarters`, that
-- one changes inside a quarter of an hour, or that a group ends inside an hour: a local day, a tenant's team.
-- `groups_in_days` says that a group ends inside a UTC day.
WITH
    arrayFilter(ms -> ms > {start_ms:Int64} AND ms < {end_ms:Int64}, (
        SELECT groupArrayArray([toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to)])
        FROM $prices
        WHERE {cluster:String} = '' OR cluster IN ({cluster:String}, '*')
    )) AS changes,
    arrayFilter(ms -> ms > {start_ms:Int64} AND ms < {end_ms:Int64}, $breaks) AS breaks
SELECT
    arrayExists(ms -> ms % 86400000 != 0, changes) AS in_days,
    arrayExists(ms -> ms % 3600000 != 0, changes) AS in_hours,
    arrayExists(ms -> ms % 900000 != 0, changes) OR arrayExists(ms -> ms % 3600000 != 0, breaks) AS in_quarters,
    arrayExists(ms -> ms % 86400000 != 0, breaks) AS groups_in_days
