-- Access: shared
-- A part of questions: the prices that are valid in the period, and the spans in which no price changes and no group
-- ends (a local day, a tenant's time in a team).
    book AS
    (
        SELECT
            kind, cluster, valid_from, currency,
            greatest(toUnixTimestamp64Milli(valid_from), {start_ms:Int64}) AS from_ms,
            least(toUnixTimestamp64Milli(valid_to), {end_ms:Int64}) AS to_ms,
            toInt256(toDecimal256(value, 9) * 1000000000) AS nano_value
        FROM $prices
        WHERE from_ms < to_ms
          AND ({cluster:String} = '' OR cluster IN ({cluster:String}, '*'))
    ),
    -- The engine evaluates this again for each use, so it returns all that is needed of the book at once.
    (
        SELECT (
            arraySort(arrayDistinct(arrayConcat([{start_ms:Int64}, {end_ms:Int64}], groupUniqArrayArray([from_ms, to_ms]), $breaks))) AS changes,
            arrayPushBack(groupUniqArrayIf(toString(cluster), cluster != '*'), '*'),
            arraySort(groupUniqArrayIf(toString(currency), currency != '')))
        FROM book
    ) AS price_changes,
    price_changes.1 AS changes,
    if(length(changes) = 1, changes, arrayPopBack(changes)) AS spans,
    price_changes.2 AS scopes,
    price_changes.3 AS known_currencies
