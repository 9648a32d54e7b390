"""ENTSO-E's day-ahead prices as the website exports them: a CSV whose first column is `MTU (UTC)` or `MTU (CET/CEST)`.

Local times are of the zone that the header names. An hour that a change of clocks repeats is known by its mark,
`(CEST)` or `(CET)`, else by the end of the row before it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from contracts.errors import BadInput
from warehouse.reference_data.electricity.price_series import PricedSpan, PriceSeries, checked_spans, read_price
from warehouse.reference_data.files import check_count

_HEADER = re.compile(r"MTU \((?P<zone>[A-Z/]+)\)")
_PRICE = re.compile(r"Day-ahead Price [\[(](?P<currency>[A-Z]{3})/(?P<unit>[MK]Wh)[\])]", re.IGNORECASE)
_ZONES = {"UTC": "UTC", "CET/CEST": "Europe/Brussels", "WET/WEST": "Europe/Lisbon", "EET/EEST": "Europe/Athens"}
_TIME = re.compile(r"(\d\d)[./](\d\d)[./](\d{4}) (\d\d):(\d\d)(?::00)?(?: \(([A-Z]{3,4})\))?")
_LENGTHS_MS = (900_000, 1_800_000, 3_600_000)
_EMPTY = ("", "-", "n/e", "N/A")


def is_entsoe_table(text: str) -> bool:
    """Return True for a header of such a table."""
    return _HEADER.match(text.lstrip("\ufeff").lstrip('"')) is not None


def read_entsoe_table(text: str, source: str, zone: str | None, series: str | None) -> PriceSeries:
    """Return the prices of a table. `zone` is its area, such as `BZN|DE-LU`, and `series` its sequence, such as `1`.

    Raises BadInput for an unknown header, several areas or sequences without a choice, and any time without a price.
    """
    lines = text.lstrip("\ufeff").splitlines()
    separator = max((",", ";", "\t"), key=lines[0].count)
    header, *records = csv.reader(lines, delimiter=separator)
    header = [name.strip() for name in header]
    prices = [(at, match) for at, name in enumerate(header) if (match := _PRICE.fullmatch(name))]
    hours = _HEADER.fullmatch(header[0])
    if len(prices) != 1 or hours is None or hours["zone"] not in _ZONES:
        raise BadInput(
            source, separator.join(header),
            f"give MTU ({' or '.join(_ZONES)}) and one column Day-ahead Price (EUR/MWh)",
        )  # fmt: skip
    at, match = prices[0]
    check_count(len(records), source)
    areas = {name: header.index(name) for name in ("Area", "Sequence") if name in header}
    choice = {"Area": zone, "Sequence": series}
    wrong = [(line, row) for line, row in enumerate(records, 2) if row and len(row) != len(header)]
    if wrong:
        raise BadInput(f"line {wrong[0][0]}", separator.join(wrong[0][1]), f"give {len(header)} cells")
    rows: Sequence[_Row] = [(line, row) for line, row in enumerate(records, 2) if row]
    label = []
    for name, column in areas.items():
        rows, chosen = _chosen(rows, name, column, choice[name])
        label.append(chosen)
    for option, name in (("--zone", "Area"), ("--series", "Sequence")):
        if choice[name] is not None and name not in areas:
            raise BadInput(option, choice[name], f"this table has no column {name} to compare it with")
    if "Currency" in header:
        column = header.index("Currency")
        for line, row in rows:
            if row[column] not in ("", match["currency"]):
                raise BadInput(f"line {line}, Currency", row[column], f"the header says {match['currency']}")
    spans = _spans(rows, at, ZoneInfo(_ZONES[hours["zone"]]))
    origin = " ".join(["ENTSO-E day-ahead", *(text for text in label if text)])
    return PriceSeries(checked_spans(spans, source), match["currency"], match["unit"].upper(), origin)


_Row = tuple[int, Sequence[str]]


def _chosen(rows: Sequence[_Row], name: str, column: int, choice: str | None) -> tuple[Sequence[_Row], str]:
    option = "--zone" if name == "Area" else "--series"
    values = sorted({row[column].strip() for _, row in rows})
    if choice is not None:
        values_of_choice = [value for value in values if choice in (value, value.removeprefix("Sequence "))]
        if not values_of_choice:
            raise BadInput(option, choice, f"the table has {', '.join(values[:20])}")
        values = values_of_choice
    if len(values) > 1:
        raise BadInput(option, "", f"the table has several: give one of {', '.join(values[:20])}")
    value = values[0] if values else ""
    return [(line, row) for line, row in rows if row[column].strip() == value], value


def _spans(rows: Sequence[_Row], column: int, zone: ZoneInfo) -> list[PricedSpan]:
    spans: list[PricedSpan] = []
    before_ms: int | None = None
    for line, row in rows:
        place, text, price = f"line {line}", row[0].strip(), row[column].strip()
        start_text, dash, end_text = text.partition(" - ")
        starts, ends = _instants(start_text, zone, place), _instants(end_text, zone, place, is_end=True)
        if dash and not starts and price in _EMPTY:
            continue  # The hour that the clocks skip has a row without a price.
        pairs = [(start, end) for start in starts for end in ends if end - start in _LENGTHS_MS]
        if before_ms in starts[: len(starts) - 1]:
            # The first of an hour that is there twice: some tables end it at 03:00, as the second one.
            pairs += [(before_ms, before_ms + length) for length in (_wall_ms(start_text, end_text),) if length > 0]
        pairs = sorted({pair for pair in pairs if pair[0] == before_ms} or set(pairs))
        if len(pairs) != 1:
            raise BadInput(
                place, text, f"give one interval of 15, 30 or 60 minutes in {zone.key}, and rows in order of time"
            )
        if price in _EMPTY:
            raise BadInput(f"{place}, price", price, f"{text} has no price: end the file before it, or fill it in")
        before_ms = pairs[0][1]
        spans.append(PricedSpan(*pairs[0], read_price(price, f"{place}, price"), place))
    return spans


def _wall_ms(start: str, end: str) -> int:
    """Return the time between two clocks of a day, in milliseconds."""
    clocks = [_TIME.fullmatch(text.strip()) for text in (start, end)]
    minutes = [int(clock[4]) * 60 + int(clock[5]) for clock in clocks if clock is not None]
    return (minutes[1] - minutes[0]) * 60_000


def _instants(text: str, zone: ZoneInfo, place: str, *, is_end: bool = False) -> list[int]:
    """Return the instants that a local time may be, in epoch milliseconds.

    A time that the clocks skip is none; but as an end it is the instant of the change.
    """
    match = _TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        day, month, year, hour, minute = (int(part) for part in match.groups()[:5])
        stamps = [datetime(year, month, day, hour, minute, tzinfo=zone, fold=fold) for fold in (0, 1)]
    except ValueError:
        raise BadInput(place, text, "give times such as 01.10.2026 00:15") from None
    local = stamps[0].replace(tzinfo=None)
    real = {
        round(stamp.timestamp() * 1000)
        for stamp in stamps
        if stamp.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local
        and match[6] in (None, stamp.tzname(), "UTC" if zone.key == "UTC" else None)
    }
    return sorted(real) or [round(stamps[0].timestamp() * 1000)] * is_end
