"""contracts.rows and the DDL agree."""

from __future__ import annotations

import re

import pytest

from contracts.rows import KEYS, SCHEMAS
from tests.support.ledger_rows import row
from warehouse.client import Warehouse

TYPES = {
    "text": {"String", "LowCardinality(String)"}, "ms": {"DateTime64(3, 'UTC')"}, "i64": {"Int64"}, "u64": {"UInt64"},
    "u32": {"UInt32"}, "u16": {"UInt16"}, "u8": {"UInt8"},
    "decimal": {"Decimal(38, 12)"}, "map": {"Map(LowCardinality(String), String)"},
    "histogram": {"Map(UInt16, UInt64)"},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_tables_columns_are_the_schemas_in_order(warehouse: Warehouse, name: str) -> None:
    rows = warehouse.query(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {t:String} "
        "AND default_kind = '' ORDER BY position", t=name,
    )  # fmt: skip
    assert [c["name"] for c in rows] == list(SCHEMAS[name])
    for column in rows:
        assert column["type"] in TYPES[SCHEMAS[name][column["name"]]], column


@pytest.mark.parametrize("name", KEYS)
def test_the_sort_key_of_a_table_identifies_its_rows(warehouse: Warehouse, name: str) -> None:
    (row,) = warehouse.query(
        "SELECT sorting_key, partition_key, engine_full FROM system.tables "
        "WHERE database = currentDatabase() AND name = {t:String}", t=name,
    )  # fmt: skip
    # In the order of the queries, with window_start perhaps as functions of it.
    named = {re.sub(r"\w+\((\w+)\)", r"\1", part) for part in row["sorting_key"].split(", ")}
    assert named == set(KEYS[name])
    assert re.search(r"(^|, )(toUnixTimestamp64Milli\()?window_start\b", row["sorting_key"])
    assert row["engine_full"].startswith("ReplacingMergeTree(version, deleted)")
    # FINAL reads partitions one by one, so a key must never be in two of them.
    assert row["partition_key"] == "toYYYYMMDD(window_start)"
    assert "window_start" in KEYS[name]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_row_is_read_as_it_was_written(warehouse: Warehouse, name: str) -> None:
    table = row(name)
    assert warehouse.insert(name, table) == 1
    times = ", ".join(f"toUnixTimestamp64Milli({c}) AS {c}" if k == "ms" else c for c, k in SCHEMAS[name].items())
    (row_,) = warehouse.query(f"SELECT {times} FROM {name} FINAL")
    assert row_ == {c: table[c][0] for c in SCHEMAS[name]}
