"""Rows of metered usage as JSON and CSV: the columns that a question groups by, and dimensions as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from warehouse.results import UsageGroup
from warehouse.usage import usage_queries


def usage_columns(names: Sequence[str], bucket: str | None) -> list[str]:
    """Return the CSV columns of usage grouped by `names` and `bucket`: groups, then measures."""
    groups = [*([bucket] if bucket else []), *usage_queries.check_by(names)]
    return [*groups, "meter", "unit", "quantity", "rows", "simulated"]


def hidden_usage_fields(columns: Sequence[str]) -> set[str]:
    """Return the fields of a row that are not among the columns of the question."""
    hidden = {field.name for field in fields(UsageGroup)} - set(columns)
    has_dimensions = any(column.startswith(usage_queries.KEY) for column in columns)
    return hidden - {"dimensions"} if has_dimensions else hidden


def flat_usage_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its dimensions as columns of their own, for CSV and tables."""
    dimensions = row.get("dimensions") or {}
    return {**row, **{f"{usage_queries.KEY}{key}": value for key, value in dimensions.items()}}
