"""Line items: what a bill is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from billing.places import Place


class Category(StrEnum):
    """The kind of charge (FOCUS: ChargeCategory)."""

    USAGE = "usage"
    """A quantity that was used, electricity included."""
    PURCHASE = "purchase"
    """What is due whether used or not: fees, minimums, what is left of a commitment."""
    DISCOUNT = "discount"
    CREDIT = "credit"
    """Money that was granted, or committed and paid, and covers other lines."""
    TAX = "tax"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A line before it is rounded. `amount` is exact; None is open: what it costs is unknown, and `steps` say why.

    `steps` are the arithmetic, a text for each product. `price` is for `per` units where one price was used.
    """

    category: Category
    name: str
    meter: str
    unit: str
    quantity: Fraction
    place: Place
    currency: str
    amount: Fraction | None
    from_ms: int
    to_ms: int
    price: Decimal | None = None
    per: Decimal = Decimal(1)
    side: str = "cost"
    energy_uj: int = 0
    gco2: Decimal | None = None
    steps: tuple[str, ...] = ()
    corrects: str = ""

    @property
    def line_id(self) -> str:
        """A name that the same line has in every reading of its period: of what it is, not of what it amounts to."""
        parts = (self.category, self.name, self.meter, self.currency, self.side, str(self.from_ms), self.corrects)
        return hashlib.sha256("\x1f".join((*parts, *self.place)).encode()).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineItem:
    """A line of a bill. The lines of a tenant in a currency sum to its invoice's total, to the smallest unit.

    `amount` is rounded so that they do; `exact` is the amount before, to twelve places. Both are None where a price or
    a measurement is missing. `corrects` is the line of an earlier period that this one mends.
    """

    line_id: str
    period: str
    category: Category
    name: str
    meter: str
    unit: str
    quantity: Decimal
    price: Decimal | None
    per: Decimal
    amount: Decimal | None
    exact: Decimal | None
    currency: str
    side: str
    from_ms: int
    to_ms: int
    place: Place
    energy_uj: int
    gco2: Decimal | None
    steps: tuple[str, ...]
    corrects: str = ""

    @property
    def tenant(self) -> str:
        """The tenant that is billed."""
        return self.place.tenant
