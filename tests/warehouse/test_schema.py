"""contracts.rows and the DDL say the same."""

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
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_tables_columns_are_the_schemas_in_order(warehouse: Warehouse, name: str) -> None:
    found = warehouse.query(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {t:String} "
        "AND default_kind = '' ORDER BY position", t=name,
    )  # fmt: skip
    assert [c["name"] for c in found] == list(SCHEMAS[name])
    for column in found:
        assert column["type"] in TYPES[SCHEMAS[name][column["name"]]], column


@pytest.mark.parametrize("name", KEYS)
def test_a_tables_sort_key_is_what_identifies_its_rows(warehouse: Warehouse, name: str) -> None:
    (found,) = warehouse.query(
        "SELECT sorting_key, partition_key, engine_full FROM system.tables "
        "WHERE database = currentDatabase() AND name = {t:String}", t=name,
    )  # fmt: skip
    # In the order that questions ask for them, and window_start perhaps by way of functions of it.
    named = {re.sub(r"\w+\((\w+)\)", r"\1", part) for part in found["sorting_key"].split(", ")}
    assert named == set(KEYS[name])
    assert re.search(r"(^|, )(toUnixTimestamp64Milli\()?window_start\b", found["sorting_key"])
    assert found["engine_full"].startswith("ReplacingMergeTree(version, deleted)")
    # FINAL looks at partitions one by one, so a key must never be in two of them.
    assert found["partition_key"] == "toYYYYMMDD(window_start)"
    assert "window_start" in KEYS[name]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_row_comes_back_as_it_was_written(warehouse: Warehouse, name: str) -> None:
    table = row(name)
    assert warehouse.insert(name, table) == 1
    times = ", ".join(f"toUnixTimestamp64Milli({c}) AS {c}" if k == "ms" else c for c, k in SCHEMAS[name].items())
    (found,) = warehouse.query(f"SELECT {times} FROM {name} FINAL")
    assert found == {c: table[c][0] for c in SCHEMAS[name]}
