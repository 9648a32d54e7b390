-- Access: shared
-- Whether a price changes inside an hour of a period, or a group ends there: a local day, a tenant's team.
WITH
    arrayConcat(
        (
            SELECT groupArrayArray([toUnixTimestamp64Milli(valid_from), toUnixTimestamp64Milli(valid_to)])
            FROM $prices
            WHERE {cluster:String} = '' OR cluster IN ({cluster:String}, '*')
        ),
        $breaks) AS changes
SELECT
    arrayExists(ms -> ms % 3600000 != 0 AND ms > {start_ms:Int64} AND ms < {end_ms:Int64}, changes) AS cut
