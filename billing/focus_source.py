"""Source of a FOCUS export, and the names of its invoices, their parts and commitments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from billing.adjustments import UNUSED
from billing.line_items import Category, LineItem
from billing.price_book import Grant
from contracts.units import rfc3339

Row = dict[str, str | None]
"""Values by column; None is empty."""

CHARGE_CATEGORIES = {
    Category.USAGE: "Usage",
    Category.PURCHASE: "Purchase",
    Category.DISCOUNT: "Adjustment",
    Category.CREDIT: "Credit",
    Category.TAX: "Tax",
}
"""ChargeCategory of each of ours. What a commitment covers is an Adjustment: it was bought, not granted."""


class Closing(NamedTuple):
    """A closed period `[start_ms, end_ms)`, and the number of the step that closed it."""

    period: str
    step: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, kw_only=True)
class FocusSource:
    """All lines of a period, and the tenant whose of them are exported (None: all).

    `lines` may be iterated again and again. `is_partial`: they are some tenants' only, as a tenant may read them, so
    that the parts of a shared GPU are unknown.
    `step` is the number of the closing and `at_ms` its time; of a draft they are None and the time of the export.
    `closings` are the periods that were closed before, which corrections refer to. `commitments` are the book's.
    """

    period: str
    start_ms: int
    end_ms: int
    step: int | None
    at_ms: int
    issuer: str
    lines: Iterable[LineItem]
    is_partial: bool = False
    tenant: str | None = None
    closings: Sequence[Closing] = ()
    commitments: Sequence[Grant] = ()
    currency: str = ""
    time_zone: str = "UTC"
    book_at_ms: int = 0

    @property
    def costs(self) -> Iterator[LineItem]:
        """Lines that become rows: costs of known amount, of the tenant."""
        return (line for line in self.of_tenant if line.side == "cost" and line.amount is not None)

    @property
    def of_tenant(self) -> Iterator[LineItem]:
        """All lines of the tenant."""
        return (line for line in self.lines if self.tenant in (None, line.tenant))

    def invoice_id(self, line: LineItem) -> str:
        """Return the invoice that a line is on."""
        return _invoice_id(self.period, self.step, line)

    def mended_invoice_id(self, line: LineItem) -> str:
        """Return the invoice that a line mends; its own if it mends none, or one that is no longer known."""
        if line.corrects:
            for closing in self.closings:
                if closing.start_ms <= line.from_ms < closing.end_ms:
                    return _invoice_id(closing.period, closing.step, line)
        return self.invoice_id(line)

    def detail_id(self, line: LineItem) -> str:
        """Return the row of InvoiceDetail that a line is a part of."""
        own, mended = self.invoice_id(line), self.mended_invoice_id(line)
        return f"{own}/{charge_category(line)}" + ("" if own == mended else f"/{mended}")

    def commitment_id(self, line: LineItem) -> str | None:
        """Return the commitment that a line buys or burns down, if the book still has it."""
        known = line.meter == "commitment" and any(row.name == line.name for row in self.commitments)
        return f"{line.name}/{line.tenant}" if known else None


def _invoice_id(period: str, step: int | None, line: LineItem) -> str:
    """A period that was reopened and closed again has new invoices, so the step is a part of their names."""
    return f"{period}.{'draft' if step is None else step}/{line.tenant}/{line.currency}"


def charge_category(line: LineItem) -> str:
    """Return FOCUS's category of a line."""
    covered = line.category is Category.CREDIT and line.meter in ("commitment", UNUSED)
    return "Adjustment" if covered else CHARGE_CATEGORIES[line.category]


def focus_time(time_ms: int) -> str:
    """Return a time in whole seconds of UTC: `2026-09-01T00:00:00Z`."""
    return rfc3339(time_ms // 1000 * 1000).replace(".000Z", "Z")
