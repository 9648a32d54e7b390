-- Access: shared
-- A part of questions: the prices of each slot of the days or hours $starts, which are cut into $count slots each. A
-- slot's mark has a bit for each kind without a price (1 tariff, 2 PUE, 4 carbon), and one for its currency.
SELECT
    scope, at_ms,
    arraySort(groupArray((slot_no, pue, pue * tariff, pue * carbon, mark))) AS slots,
    arrayMap(nano_pue -> toInt64(nano_pue), slots.2) AS pues, slots.3 AS cost_rates, slots.4 AS gco2_rates, slots.5 AS marks
FROM
(
    SELECT
        k.scope AS scope, k.at_ms AS at_ms, k.slot_no AS slot_no,
        p.pue AS pue, p.tariff AS tariff, p.carbon AS carbon,
        toUInt64((p.tariffs = 0) + 2 * (p.pues = 0) + 4 * (p.carbons = 0)) + if(
            p.tariffs = 0 OR throwIf(length(known_currencies) > 60, 'more than 60 currencies in one question'), 0,
            bitShiftLeft(toUInt64(4), indexOf(known_currencies, toString(p.currency)))) AS mark
    FROM
    (
        SELECT
            arrayJoin(scopes) AS scope, arrayJoin($starts) AS at_ms, arrayJoin(range($count)) AS slot_no,
            roundDown(at_ms + toInt64(slot_no) * $slot_ms, spans) AS span
    ) AS k
    LEFT ANY JOIN priced AS p ON p.scope = k.scope AND p.span = k.span
)
GROUP BY scope, at_ms
