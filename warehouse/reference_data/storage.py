"""Inserts into tables that people edit. A row replaces the stored one of the same key with a lower version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse.client import Warehouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def put_versioned(warehouse: Warehouse, table: str, items: Iterable[Any], **columns: int) -> None:
    """Insert dataclasses, with `columns` beside their fields, under the table's next version: a number, not a time."""
    (greatest,) = warehouse.ask("reference_data/greatest_version", fragments={"table": table})
    put_rows(warehouse, table, items, version=greatest["version"] + 1, **columns)


def put_rows(warehouse: Warehouse, table: str, items: Iterable[Any], **columns: int) -> None:
    """Insert dataclasses in one statement, so that all or none are stored. A field `x_ms` is the time column `x`."""
    rows = [{_column(k): _value(k, v) for k, v in asdict(item).items()} | columns for item in items]
    warehouse.insert_rows(table, rows)


def _column(field: str) -> str:
    return field.removesuffix("_ms")


def _value(field: str, value: Any) -> Any:
    return _EPOCH + timedelta(milliseconds=value) if field.endswith("_ms") else value
