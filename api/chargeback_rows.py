"""Rows of bills and of efficiency as CSV: the groups, the measures, and the boundary that they are within."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.boundary import Boundary
from warehouse.chargeback import token_kinds
from warehouse.chargeback.dimensions import DIMENSIONS
from warehouse.results import ChargebackRow

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
