"""A rate of OpenEI's Utility Rate Database as JSON: its price of energy by month, weekday and local hour.

Tiers are no prices of hours and are refused. Demand charges, fixed charges and the like are named, and left
out only with consent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from contracts.errors import BadInput
from contracts.units import MS_PER_HOUR, rfc3339
from warehouse.reference_data.electricity.price_series import PricedSpan, PriceSeries, checked_spans, read_price
from warehouse.reference_data.files import MAX_ROWS

_STRUCTURE = "energyratestructure"
_OTHER_CHARGES = (
    "demandratestructure", "flatdemandstructure", "coincidentratestructure", "demandreactivepowercharge",
    "fixedchargefirstmeter", "fixedchargeeaaddl", "mincharge", "annualmincharge", "fueladjustmentsmonthly",
)  # fmt: skip
_YEARS = 20


def is_openei_rate(document: object) -> bool:
    """Return True for a rate, or for an answer of the API that holds rates."""
    return _STRUCTURE in _rate(document) or any(_STRUCTURE in _rate(item) for item in _items(document))


def read_openei_rate(
    document: object, source: str, zone: ZoneInfo, span_ms: tuple[int, int], currency: str | None
) -> PriceSeries:
    """Return the hourly prices of a rate within `[start, end)`, in the utility's zone. Numbers in it are texts.

    Raises BadInput for tiers, a schedule that is not 12 x 24, a period without a price, a span outside of the rate's
    validity, and where a rate outside of the USA is read without a currency.
    """
    rates = [_rate(item) for item in _items(document) if _STRUCTURE in _rate(item)] or [_rate(document)]
    if len(rates) > 1:
        raise BadInput(source, f"{len(rates)} rates", "give one rate")
    rate = rates[0]
    country = rate.get("country") or "USA"
    american = country in ("USA", "US")
    if currency is None and not american:
        raise BadInput("--currency", "", f"the rate is of {country} and names none: give one")
    if american and currency not in (None, "USD"):
        raise BadInput("--currency", currency, "the rate is of the USA, in USD: nothing is converted")
    _check_validity(rate, span_ms)
    weekdays, weekends = (_schedule(rate, f"energy{days}schedule") for days in ("weekday", "weekend"))
    used = {number for matrix in (weekdays, weekends) for hours in matrix for number in hours}
    prices = {number: _price(rate, number) for number in used}
    spans = list(_spans(weekdays, weekends, prices, zone, *span_ms))
    name = " ".join(str(rate.get(key) or "") for key in ("utility", "name", "label")).strip()
    notes = [f"Hours are local in {zone.key}; weekends have their own prices, holidays have none."]
    if any("sell" in rate[_STRUCTURE][number][0] for number in used):
        notes.append("What the utility pays for energy that is fed in (sell) is not read.")
    return PriceSeries(
        checked_spans(spans, source), currency or "USD", "KWH", f"OpenEI {name}"[:400], notes,
        [key for key in _OTHER_CHARGES if _charges(rate.get(key))],
    )  # fmt: skip


def _items(document: object) -> list[Any]:
    items = document.get("items") if isinstance(document, Mapping) else document
    return items if isinstance(items, list) else []


def _rate(document: object) -> Mapping[str, Any]:
    return document if isinstance(document, Mapping) else {}


def _charges(value: object) -> bool:
    """Return True for a charge that is not zero, inside lists and objects too."""
    if isinstance(value, list):
        return any(map(_charges, value))
    if isinstance(value, Mapping):
        return any(_charges(part) for name, part in value.items() if name in ("rate", "adj"))
    try:
        return value not in (None, "", False) and Decimal(str(value)) != 0
    except InvalidOperation:
        return True


def _schedule(rate: Mapping[str, Any], name: str) -> list[list[int]]:
    """Return the numbers of periods by month and hour."""
    matrix = rate.get(name)
    if (
        not isinstance(matrix, list)
        or len(matrix) != 12
        or any(not isinstance(hours, list) or len(hours) != 24 for hours in matrix)
    ):
        raise BadInput(name, type(matrix).__name__, "give 12 lists of 24 numbers: months and local hours")
    structure = rate[_STRUCTURE]
    count = len(structure) if isinstance(structure, list) else 0
    for month, hours in enumerate(matrix, 1):
        for hour, number in enumerate(hours):
            if not (isinstance(number, str) and number.isdecimal() and len(number) < 5 and int(number) < count):
                raise BadInput(f"{name}, month {month}, hour {hour}", number, f"give a period, 0 to {count - 1}")
    return [[int(number) for number in hours] for hours in matrix]


def _price(rate: Mapping[str, Any], number: int) -> Decimal:
    tiers = rate[_STRUCTURE][number]
    place = f"{_STRUCTURE}, period {number}"
    if not isinstance(tiers, list) or len(tiers) != 1 or not isinstance(tiers[0], Mapping) or "max" in tiers[0]:
        count = len(tiers) if isinstance(tiers, list) else 0
        raise BadInput(
            place, f"{count} tiers" if count != 1 else "a tier with a max",
            "a price of an hour has no tiers: which tier a kWh is in depends on the month. Give a rate without them",
        )  # fmt: skip
    tier = tiers[0]
    if (unit := tier.get("unit") or "kWh") != "kWh":
        raise BadInput(f"{place}, unit", unit, "only prices per kWh are read")
    if tier.get("rate") is None:
        raise BadInput(f"{place}, rate", "", "there is no price, and a missing price is not 0: write it in")
    return read_price(str(tier["rate"]), f"{place}, rate") + read_price(str(tier.get("adj") or "0"), f"{place}, adj")


def _check_validity(rate: Mapping[str, Any], span_ms: tuple[int, int]) -> None:
    start_ms, end_ms = span_ms
    if not 0 < end_ms - start_ms <= _YEARS * 366 * 24 * MS_PER_HOUR:
        raise BadInput("--to", rfc3339(end_ms), f"give a time after --from, at most {_YEARS} years, in whole hours")
    for name in ("startdate", "enddate"):
        text = rate.get(name)
        if text in (None, ""):
            continue
        if not str(text).isdecimal() or len(str(text)) > 11:
            raise BadInput(name, text, "give seconds since 1970")
        # It is a day of the utility, as midnight UTC: its zone is within a day of that.
        at_ms = int(str(text)) * 1000 + (24 * MS_PER_HOUR if name == "enddate" else -24 * MS_PER_HOUR)
        if start_ms < at_ms if name == "startdate" else end_ms > at_ms:
            raise BadInput(
                "--from" if name == "startdate" else "--to", rfc3339(start_ms if name == "startdate" else end_ms),
                f"the rate's {name} is {datetime.fromtimestamp(int(str(text)), UTC):%Y-%m-%d}",
            )  # fmt: skip


def _spans(
    weekdays: list[list[int]], weekends: list[list[int]], prices: Mapping[int, Decimal], zone: ZoneInfo,
    start_ms: int, end_ms: int,
) -> Iterator[PricedSpan]:  # fmt: skip
    if (end_ms - start_ms) // MS_PER_HOUR > MAX_ROWS:
        raise BadInput("--to", rfc3339(end_ms), f"give at most {MAX_ROWS:,} hours at once")
    for at_ms in range(start_ms, end_ms, MS_PER_HOUR):
        local = datetime.fromtimestamp(at_ms / 1000, zone)
        if local.minute or local.second:
            raise BadInput("--from", rfc3339(at_ms), f"{local:%H:%M} in {zone.key} begins no hour")
        if at_ms + MS_PER_HOUR > end_ms:
            raise BadInput("--to", rfc3339(end_ms), "give a full hour")
        matrix = weekends if local.weekday() >= 5 else weekdays
        number = matrix[local.month - 1][local.hour]
        yield PricedSpan(at_ms, at_ms + MS_PER_HOUR, prices[number], f"{local:%Y-%m-%d %H:%M}, period {number}")
