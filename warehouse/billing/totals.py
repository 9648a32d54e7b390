"""Totals of closed periods, of a caller's tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from billing.rounding import to_minor_unit
from warehouse.billing.periods import PeriodStep
from warehouse.reader import LedgerReader
from warehouse.results import Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class BillTotal:
    """Sum of a closing's lines in a currency, without those whose amount is unknown (`open_lines`)."""

    period: str
    currency: str
    side: str
    total: Amount
    open_lines: int
    lines: int


def bill_totals(reader: LedgerReader, closings: Sequence[PeriodStep]) -> list[BillTotal]:
    """Return the totals of closings by period, currency and side."""
    rows = reader.ask("billing/bill_totals", closings=[f"{step.period} {step.step}" for step in closings])
    return [BillTotal(**{**row, "total": to_minor_unit(row["total"], row["currency"])}) for row in rows]
