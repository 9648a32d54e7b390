"""Rows of bills and of efficiency as CSV and XLSX: the groups, the measures, and the boundary that they are within."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, BinaryIO

from api.serialization import plain_rows
from contracts.boundary import Boundary
from contracts.spreadsheet import EXACT_NOTE, UNKNOWN, Spreadsheet
from contracts.units import rfc3339
from warehouse.chargeback import token_kinds
from warehouse.chargeback.dimensions import DIMENSIONS
from warehouse.periods import Period
from warehouse.results import ChargebackRow

_MONEY = frozenset({"kwh_facility", "cost", "gco2"})
"""Figures that are empty where a price is missing."""
ALL = "all"
"""Boundary of a row in CSV where none was asked for: all that was measured."""


def hidden_fields(names: Sequence[str], *, per_million: bool = False) -> set[str]:
    """Return the fields that rows grouped by `names` do not show: other groups, and those per million unless asked."""
    return (set(DIMENSIONS) - set(names)) | (set() if per_million else set(token_kinds.FIELDS))


def chargeback_columns(names: Sequence[str], *, per_million: bool = False) -> list[str]:
    """Return the CSV columns of rows grouped by `names`: groups, measures, boundary."""
    hidden = hidden_fields([], per_million=per_million)
    measures = [name for name in ChargebackRow.__dataclass_fields__ if name not in hidden]
    return [*dict.fromkeys(names), *measures, "boundary"]


def chargeback_csv_rows(rows: Sequence[Mapping[str, Any]], boundary: Boundary | None) -> list[dict[str, Any]]:
    """Return the rows with their boundary, so that a saved file says what its energy includes."""
    return [{**row, "boundary": str(boundary or ALL)} for row in rows]


def write_chargeback_sheets(
    file: BinaryIO, blocks: Iterable[list[ChargebackRow]], names: Sequence[str], period: Period,
    boundary: Boundary | None, *, per_million: bool = False,
) -> int:  # fmt: skip
    """Write rows grouped by `names` as XLSX, with figures as numbers. Returns how many rows."""
    facts = {
        "from": rfc3339(period.start), "to": rfc3339(period.end), "time zone": period.time_zone,
        "energy within": str(boundary or ALL), "digits": EXACT_NOTE,
    }  # fmt: skip
    columns = chargeback_columns(names, per_million=per_million)
    hidden = hidden_fields(names, per_million=per_million)
    rows = (_sheet_row(row, hidden, boundary) for block in blocks for row in block)
    with Spreadsheet(file, datetime.fromtimestamp(period.end / 1000, UTC)) as book:
        book.add("Period", ({"fact": f, "value": v} for f, v in facts.items()), ("fact", "value"), has_twin=False)
        return book.add("Chargeback", rows, columns)


def _sheet_row(row: ChargebackRow, hidden: set[str], boundary: Boundary | None) -> dict[str, Any]:
    (values,) = chargeback_csv_rows(plain_rows([row], exclude=hidden), boundary)
    for name in values:
        value = getattr(row, name, None)
        if isinstance(value, (int, float, Decimal)):
            values[name] = value
        elif value is None and name in _MONEY:
            values[name] = UNKNOWN
    return values
