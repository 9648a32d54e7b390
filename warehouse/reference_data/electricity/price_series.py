"""A series of electricity prices of one cluster: what every shape becomes, and then rows of the table of prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.units import rfc3339, shortest_decimal
from warehouse.reference_data.files import TextRow, check_count

_KWH_PER = {"MWH": 1000, "KWH": 1}


class PricedSpan(NamedTuple):
    """A price per unit for `[start_ms, end_ms)`, and its place in the file."""

    start_ms: int
    end_ms: int
    price: Decimal
    place: str


@dataclass(frozen=True, slots=True)
class PriceSeries:
    """Spans in order of time without a gap, in one currency and one unit of energy (`MWH` or `KWH`)."""

    spans: Sequence[PricedSpan]
    currency: str
    unit: str
    origin: str
    """The market and zone, or the rate: the `source` of each row."""
    notes: Sequence[str] = ()
    left_out: Sequence[str] = field(default_factory=tuple)
    """Charges that a price per kWh cannot have: leaving them out needs consent."""

    def rows(self, cluster: str) -> list[TextRow]:
        """Return rows of kind `energy`, with prices per kWh, exactly."""
        kwh = _KWH_PER[self.unit]
        return [
            TextRow(
                one.place,
                {
                    "kind": "energy",
                    "cluster": cluster,
                    "value": shortest_decimal(one.price / kwh),
                    "valid_from": rfc3339(one.start_ms),
                    "valid_to": rfc3339(one.end_ms),
                    "currency": self.currency,
                    "source": self.origin,
                },
            )
            for one in self.spans
        ]

    def conversion(self) -> str:
        """Return what was done with the numbers, with the first as an example."""
        first, last = self.spans[0], self.spans[-1]
        price = shortest_decimal(first.price)
        kwh = shortest_decimal(first.price / _KWH_PER[self.unit])
        per = f"{price} {self.currency}/MWh is stored as {kwh} {self.currency}/kWh" if self.unit == "MWH" else (
            f"{kwh} {self.currency}/kWh is stored as it is"
        )  # fmt: skip
        return (
            f"{self.origin}: {len(self.spans):,} prices from {rfc3339(first.start_ms)} to {rfc3339(last.end_ms)}. "
            f"The first, {per}."
        )


def checked_spans(spans: Sequence[PricedSpan], source: str) -> list[PricedSpan]:
    """Return spans in order. Raises BadInput for none, too many, and a duplicate, an overlap or a gap."""
    check_count(len(spans), source)
    if not spans:
        raise BadInput(source, "", "there is no price in it")
    ordered = sorted(spans)
    for one, other in pairwise(ordered):
        if other.start_ms < one.end_ms:
            same = (one.start_ms, one.end_ms) == (other.start_ms, other.end_ms)
            raise BadInput(
                other.place, _interval(other.start_ms, min(one.end_ms, other.end_ms)),
                f"{one.place} has {'the same interval' if same else 'a part of this interval'}: keep one of the two",
            )  # fmt: skip
        if other.start_ms > one.end_ms:
            raise BadInput(
                source, _interval(one.end_ms, other.start_ms),
                f"no price between {one.place} and {other.place}: get that time too, or import each part by itself",
            )  # fmt: skip
    return ordered


def read_price(text: str, place: str) -> Decimal:
    """Return a price. Raises BadInput for what is no number: a missing price is not 0."""
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or abs(price) >= 10**9 or price != round(price, 9):
        raise BadInput(place, text, "give a number below 1e9 with at most 9 decimals; a missing price is not 0")
    return price


def check_currency(choice: str | None, default: str, currency: str, place: str) -> None:
    """Raise BadInput where a series has another currency than was asked for, or than the setting without a question."""
    if choice and choice != currency:
        raise BadInput("--currency", choice, f"{place} is in {currency}: nothing is converted")
    if not choice and default != currency:
        raise BadInput(
            place, currency, f"the setting currency is {default}: give --currency {currency} if that is meant"
        )


def _interval(start_ms: int, end_ms: int) -> str:
    return f"{rfc3339(start_ms)}/{rfc3339(end_ms)}"
