"""ENTSO-E's day-ahead prices as XML: document A44 of the Transparency Platform.

A `TimeSeries` has a zone, a currency, a unit and a `curveType`; its `Period`s have an interval in UTC, a resolution and
`Point`s by position. Under A03 a position that is left out repeats the price before it; under A01 it is a gap. Days of
23 and 25 hours have 92 and 100 quarters, which the interval says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from xml.etree.ElementTree import Element

from contracts.errors import BadInput
from contracts.units import epoch_ms, rfc3339
from warehouse.reference_data.electricity.bounded_xml import parse_xml, text_of
from warehouse.reference_data.electricity.price_series import PricedSpan, PriceSeries, checked_spans, read_price

_MINUTES = {"PT15M": 15, "PT30M": 30, "PT60M": 60, "PT1H": 60}
_MAX_POINTS = 100_000


@dataclass(frozen=True, slots=True)
class _Series:
    place: str
    zone: str
    label: str
    """Resolution and auction, as `--series` names them."""
    currency: str
    unit: str
    repeats: bool
    period: Element


def read_entsoe(content: bytes, source: str, zone: str | None, series: str | None) -> PriceSeries:
    """Return the prices of a document.

    `zone` is the EIC of the bidding zone, and `series` the label of one of several series, such as `PT15M` or
    `PT15M/2`. Raises BadInput for a document without prices, several zones or series without a choice, an unknown unit,
    and any gap, overlap or duplicate.
    """
    root = parse_xml(content, source)
    if root.tag == "Acknowledgement_MarketDocument":
        reasons = "; ".join(text_of(reason, "text") for reason in root.findall("Reason"))
        raise BadInput(source, root.tag, f"ENTSO-E sent no prices: {reasons or 'no reason is given'}")
    if root.tag != "Publication_MarketDocument" or text_of(root, "type") != "A44":
        raise BadInput(source, f"{root.tag} {text_of(root, 'type')}", "give a Publication_MarketDocument of type A44")
    every = list(_all_series(root))
    chosen = _of_label(_of_zone(every, zone, source), series, source)
    first = chosen[0]
    for one in chosen:
        if (one.currency, one.unit) != (first.currency, first.unit):
            raise BadInput(one.place, f"{one.currency} per {one.unit}", f"{first.place} has {first.currency} per "
                           f"{first.unit}: import each by itself")  # fmt: skip
    spans = checked_spans([span for one in chosen for span in _spans(one)], source)
    return PriceSeries(spans, first.currency, first.unit, f"ENTSO-E A44 {first.zone} {first.label}")


def _all_series(root: Element) -> Iterator[_Series]:
    for number, one in enumerate(root.findall("TimeSeries"), 1):
        place = f"TimeSeries {number}"
        zone, other = text_of(one, "in_Domain.mRID"), text_of(one, "out_Domain.mRID")
        if not zone or zone != other:
            raise BadInput(place, f"{zone} to {other}", "a price has one zone as its in_Domain and its out_Domain")
        contract = text_of(one, "contract_MarketAgreement.type") or "A01"
        if contract != "A01":
            raise BadInput(f"{place}, contract_MarketAgreement.type", contract, "only A01, day-ahead, is read")
        currency, unit = text_of(one, "currency_Unit.name"), text_of(one, "price_Measure_Unit.name").upper()
        if unit not in ("MWH", "KWH"):
            raise BadInput(f"{place}, price_Measure_Unit.name", unit, "give MWH or KWH")
        curve = text_of(one, "curveType") or "A01"
        if curve not in ("A01", "A03"):
            raise BadInput(f"{place}, curveType", curve, "only A01 and A03 are read")
        sequence = text_of(one, "classificationSequence_AttributeInstanceComponent.position")
        for at, period in enumerate(one.findall("Period"), 1):
            resolution = text_of(period, "resolution")
            if resolution not in _MINUTES:
                raise BadInput(f"{place}, resolution", resolution, f"give one of {', '.join(_MINUTES)}")
            label = f"{resolution}/{sequence}" if sequence else resolution
            yield _Series(
                place=f"{place}, Period {at}", zone=zone, label=label, currency=currency, unit=unit,
                repeats=curve == "A03", period=period,
            )  # fmt: skip


def _of_zone(every: list[_Series], zone: str | None, source: str) -> list[_Series]:
    zones = sorted({one.zone for one in every})
    if not zones:
        raise BadInput(source, "", "the document has no TimeSeries with a Period")
    if zone is None and len(zones) > 1:
        raise BadInput("--zone", "", f"the document has several: give one of {', '.join(zones[:20])}")
    if zone is not None and zone not in zones:
        raise BadInput("--zone", zone, f"the document is of {', '.join(zones[:20])}")
    return [one for one in every if zone in (None, one.zone)]


def _of_label(every: list[_Series], series: str | None, source: str) -> list[_Series]:
    labels = sorted({one.label for one in every})
    names = ", ".join(labels[:20])
    if series is None and len(labels) > 1:
        raise BadInput(
            "--series", "",
            f"{source} has several resolutions or auctions: give one of {names} (RESOLUTION/AUCTION)",
        )  # fmt: skip
    if series is not None and series not in labels:
        raise BadInput("--series", series, f"the document has {names}")
    return [one for one in every if series in (None, one.label)]


def _spans(series: _Series) -> Iterator[PricedSpan]:
    """Yield the prices of a period, each position once."""
    start_ms, end_ms = (_instant_ms(series, f"timeInterval/{name}") for name in ("start", "end"))
    step_ms = _MINUTES[text_of(series.period, "resolution")] * 60_000
    count, rest_ms = divmod(end_ms - start_ms, step_ms)
    if rest_ms or not 0 < count <= _MAX_POINTS:
        raise BadInput(
            f"{series.place}, timeInterval", f"{rfc3339(start_ms)}/{rfc3339(end_ms)}",
            f"give a multiple of {step_ms // 60_000} minutes, at most {_MAX_POINTS:,} of them",
        )  # fmt: skip
    prices: dict[int, Decimal] = {}
    for point in series.period.findall("Point"):
        text = text_of(point, "position")
        position = int(text) if text.isdecimal() and len(text) < 8 else 0
        place = f"{series.place}, position {text}"
        if not 1 <= position <= count:
            raise BadInput(place, text, f"the interval has positions 1 to {count}")
        if position in prices:
            raise BadInput(place, rfc3339(start_ms + (position - 1) * step_ms), "this position is there twice")
        prices[position] = read_price(text_of(point, "price.amount"), place)
    price: Decimal | None = None
    for position in range(1, count + 1):
        at_ms = start_ms + (position - 1) * step_ms
        price = prices.get(position, price if series.repeats else None)
        if price is None:
            raise BadInput(
                f"{series.place}, position {position}", f"{rfc3339(at_ms)}/{rfc3339(at_ms + step_ms)}",
                "there is no price, and none before it to repeat (only curveType A03 repeats)",
            )  # fmt: skip
        yield PricedSpan(at_ms, at_ms + step_ms, price, f"{series.place}, position {position}")


def _instant_ms(series: _Series, path: str) -> int:
    text = text_of(series.period, path)
    try:
        return epoch_ms(text)
    except ValueError:
        raise BadInput(f"{series.place}, {path}", text, "give a time in UTC, such as 2026-10-01T22:00Z") from None
