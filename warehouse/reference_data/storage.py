"""Inserts into tables that people edit. A row replaces the stored one of the same key with a lower version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse.client import Warehouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def put_versioned(warehouse: Warehouse, table: str, items: Iterable[Any], **columns: int) -> None:
    """Insert dataclasses, with `columns` beside their fields, under the table's next version: a number, not a time."""
    (greatest,) = warehouse.ask("reference_data/greatest_version", fragments={"table": table})
    put_rows(warehouse, table, items, version=greatest["version"] + 1, **columns)


def put_and_remove(warehouse: Warehouse, table: str, puts: Iterable[Any], removals: Iterable[Any]) -> None:
    """Insert dataclasses, and mark others as deleted, in one statement: all changes are stored, or none."""
    (greatest,) = warehouse.ask("reference_data/greatest_version", fragments={"table": table})
    version = {"version": greatest["version"] + 1}
    rows = [_row(item) | version | {"deleted": 0} for item in puts]
    warehouse.insert_rows(table, rows + [_row(item) | version | {"deleted": 1} for item in removals])


def put_rows(warehouse: Warehouse, table: str, items: Iterable[Any], **columns: int) -> None:
    """Insert dataclasses in one statement, so that all or none are stored. A field `x_ms` is the time column `x`."""
    warehouse.insert_rows(table, [_row(item) | columns for item in items])


def _row(item: Any) -> dict[str, Any]:
    return {_column(field.name): _value(field.name, getattr(item, field.name)) for field in fields(item)}


def _column(field: str) -> str:
    return field.removesuffix("_ms")


def _value(field: str, value: Any) -> Any:
    return _EPOCH + timedelta(milliseconds=value) if field.endswith("_ms") else value
