"""Tables as columns: their types, and the keys by which rows replace each other."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.histogram import HistogramColumn
from contracts.rows import KEYS, SCHEMAS, concat, conform, keys, length, tombstones

_KINDS = {
    "ms": np.int64, "i64": np.int64, "u64": np.uint64, "u32": np.uint32, "u16": np.uint16, "u8": np.uint8,
    "decimal": np.object_, "map": np.object_,
}  # fmt: skip
TABLES = pytest.mark.parametrize("name", SCHEMAS)
KEYED = pytest.mark.parametrize("name", KEYS)


def columns(name: str, n: int = 2) -> dict:
    values = {"text": lambda c, i: f"{c}{i}", "histogram": lambda _, i: {i: 1, i + 8: 2}}
    return {c: [values.get(kind, lambda _, i: i + 1)(c, i) for i in range(n)] for c, kind in SCHEMAS[name].items()}


@TABLES
def test_conform_gives_the_columns_of_the_schema_in_its_order_and_types(name):
    shuffled = dict(reversed(columns(name).items()))
    table = conform(name, shuffled)
    assert list(table) == list(SCHEMAS[name])
    for column, kind in SCHEMAS[name].items():
        if kind == "text":
            assert isinstance(table[column], list)
        elif kind == "histogram":
            assert isinstance(table[column], HistogramColumn)
        else:
            assert table[column].dtype == _KINDS[kind]
        assert list(table[column]) == shuffled[column]


def test_a_scalar_is_a_constant_column():
    table = conform("sources", columns("sources", 3) | {"log_id": "log", "epoch": 2**40})
    assert table["log_id"] == ["log"] * 3
    assert table["epoch"].tolist() == [2**40] * 3


def test_scalars_alone_make_one_row():
    assert length(conform("marks", dict.fromkeys(SCHEMAS["marks"], 0) | {"log_id": "log", "state": "{}"})) == 1


def test_columns_may_have_no_rows():
    table = conform("ledger", {c: [] for c in SCHEMAS["ledger"]})
    assert length(table) == 0
    assert table["active_uj"].dtype == np.int64


def test_a_missing_column_is_an_error():
    with pytest.raises(KeyError, match="state"):
        conform("marks", {c: v for c, v in columns("marks").items() if c != "state"})


def test_columns_of_different_lengths_are_an_error():
    with pytest.raises(ValueError, match=r"marks\.state has 3 rows, not 2"):
        conform("marks", columns("marks") | {"state": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("column", "value"), [("method", 256), ("method", -1), ("window_ms", 2**32), ("active_uj", 2**63), ("version", -1)]
)
def test_a_number_that_does_not_fit_its_column_is_an_error(column, value):
    with pytest.raises(OverflowError):
        conform("ledger", columns("ledger", 1) | {column: [value]})
    with pytest.raises(OverflowError):
        conform("ledger", columns("ledger", 1) | {column: value})


@TABLES
def test_concat_appends_tables(name):
    first, second = conform(name, columns(name, 2)), conform(name, columns(name, 1))
    joined = concat(name, [first, second])
    assert {c: list(v) for c, v in joined.items()} == {c: [*first[c], *second[c]] for c in SCHEMAS[name]}


@TABLES
def test_concat_without_tables_is_an_empty_table(name):
    table = concat(name, [])
    assert list(table) == list(SCHEMAS[name])
    assert length(table) == 0


@KEYED
def test_the_key_of_a_row_is_in_its_schema_and_in_plain_python(name):
    assert set(KEYS[name]) <= set(SCHEMAS[name])
    for key in keys(name, conform(name, columns(name))):
        assert all(type(part) in (int, str) for part in key)


@KEYED
def test_tombstones_delete_exactly_their_keys(name):
    gone = keys(name, conform(name, columns(name)))
    table = tombstones(name, gone, log_id="log", log_partition=3, version=2**63)
    assert keys(name, table) == gone
    assert table["deleted"].tolist() == [1, 1]
    assert table["version"].tolist() == [2**63] * 2
    empty = set(SCHEMAS[name]) - set(KEYS[name]) - {"log_id", "log_partition", "version", "deleted"}
    assert all(not v for c in empty for v in table[c])


@KEYED
def test_windows_and_deletions_are_in_every_keyed_table(name):
    assert "window_start" in KEYS[name]
    assert {"version", "deleted", "log_id", "log_partition"} <= set(SCHEMAS[name])
