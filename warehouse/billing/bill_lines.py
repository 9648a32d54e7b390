"""Lines of closed periods, as they were frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from billing.line_items import Category, LineItem
from billing.places import Place
from billing.proof import line_bytes
from billing.rounding import to_minor_unit
from contracts.errors import LedgerError
from warehouse.billing.periods import PeriodStep
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSERT_ROWS = 10_000


def put_lines(warehouse: Warehouse, period: str, step: int, lines: Sequence[LineItem]) -> None:
    """Store the lines of one step of a period, numbered from 1. Safe to repeat before the step itself is stored."""
    for start in range(0, len(lines), _INSERT_ROWS):
        block = lines[start : start + _INSERT_ROWS]
        rows = [_row(period, step, start + n, line) for n, line in enumerate(block, 1)]
        warehouse.insert_rows("closed_lines", rows)


@dataclass(frozen=True, slots=True)
class ClosedLines:
    """The lines that a closing froze, in order, of the reader's tenants. Each iteration reads them anew, in blocks.

    It ends with LedgerError if they are not those that were closed. Only an operator's reader sees all lines, and so
    only there the hash can be checked.
    """

    reader: LedgerReader
    step: PeriodStep

    def __iter__(self) -> Iterator[LineItem]:
        step, digest = self.step, hashlib.sha256()
        blocks = self.reader.ask_blocks(
            "billing/bill_lines", closed_period=step.period, closed_step=step.step, count=step.lines
        )
        for row in chain.from_iterable(blocks):
            line = _line(row)
            if self.reader.tenants is None:
                digest.update(line_bytes(line))
            yield line
        if self.reader.tenants is None and digest.hexdigest() != step.lines_sha256:
            raise LedgerError(
                f"the lines of {step.period} are not those that were closed: their hash is not {step.lines_sha256}. "
                "Restore the table closed_lines from a backup."
            )


def corrections_of(reader: LedgerReader, periods: Sequence[tuple[str, int]]) -> list[LineItem]:
    """Return the lines of these closings (period and step) that mend lines of earlier periods."""
    rows = reader.ask("billing/booked_corrections", closings=[f"{period} {step}" for period, step in periods])
    return [_line(row) for row in rows]


def _row(period: str, step: int, number: int, line: LineItem) -> dict[str, Any]:
    return {
        "period": period,
        "step": step,
        "line": number,
        "line_id": line.line_id,
        "category": str(line.category),
        "name": line.name,
        "meter": line.meter,
        "unit": line.unit,
        "quantity": line.quantity,
        "price": line.price,
        "per": line.per,
        "amount": line.amount,
        "exact_amount": line.exact,
        "currency": line.currency,
        "side": line.side,
        "line_start": _EPOCH + timedelta(milliseconds=line.from_ms),
        "line_end": _EPOCH + timedelta(milliseconds=line.to_ms),
        **line.place._asdict(),
        "energy_uj": line.energy_uj,
        "gco2": line.gco2,
        "steps": list(line.steps),
        "corrects": line.corrects,
    }


def _line(row: Mapping[str, Any]) -> LineItem:
    return LineItem(
        line_id=row["line_id"],
        period=row["period"],
        category=Category(row["category"]),
        name=row["name"],
        meter=row["meter"],
        unit=row["unit"],
        quantity=row["quantity"],
        price=row["price"],
        per=row["per"],
        amount=None if row["amount"] is None else to_minor_unit(row["amount"], row["currency"]),
        exact=row["exact_amount"],
        currency=row["currency"],
        side=row["side"],
        from_ms=row["from_ms"],
        to_ms=row["to_ms"],
        place=Place(**{name: row[name] for name in Place._fields}),
        energy_uj=row["energy_uj"],
        gco2=row["gco2"],
        steps=tuple(row["steps"]),
        corrects=row["corrects"],
    )
