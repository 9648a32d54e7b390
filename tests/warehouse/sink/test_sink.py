"""The sink: idempotent by key, hours follow the ledger, a restarted worker reads the stored rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contracts.dictionary_column import DictionaryColumn
from contracts.errors import LedgerError
from contracts.histogram import HistogramColumn
from contracts.rows import KEYS, SCHEMAS, Table, keys, length, tombstones
from tests.support.ledger_rows import FIRST_FINAL, HOUR, WINDOW_MS, row, rows
from warehouse.client import Warehouse
from warehouse.sink import sink as sink_module
from warehouse.sink.sink import Sink

HOUR_ROWS = (
    "SELECT tenant, active_uj, idle_uj, requests, windows, revision, version, toUnixTimestamp64Milli(hour) AS hour "
    "FROM ledger_hour FINAL ORDER BY hour, tenant"
)


@pytest.fixture
def sink(warehouse: Warehouse) -> Sink:
    return Sink(warehouse)


def live(warehouse: Warehouse) -> list[int]:
    return [r["active_uj"] for r in warehouse.query("SELECT active_uj FROM ledger FINAL ORDER BY tenant, window_start")]


def gone(values: dict[str, Any], version: int) -> Table:
    table = row("ledger", **values)
    return tombstones("ledger", keys("ledger", table), log_id="log", log_partition=0, version=version)


def test_a_repeated_row_changes_nothing(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", row("ledger", active_uj=5))
    sink.write("ledger", row("ledger", active_uj=5))
    assert live(warehouse) == [5]


def test_the_greater_version_wins_in_any_order(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", row("ledger", active_uj=7, version=FIRST_FINAL + 1))
    sink.write("ledger", row("ledger", active_uj=5, version=9, final=0))
    assert live(warehouse) == [7]


def test_a_deleted_row_is_gone_until_a_greater_version_is_written(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", row("ledger", active_uj=5, version=1))
    sink.write("ledger", gone({}, version=2))
    assert live(warehouse) == []
    sink.write("ledger", row("ledger", active_uj=6, version=1))
    assert live(warehouse) == []
    sink.write("ledger", row("ledger", active_uj=8, version=3))
    assert live(warehouse) == [8]


def test_an_hour_sums_its_final_windows(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", rows(
        "ledger",
        {"active_uj": 5, "idle_uj": 1, "requests": 2},
        {"active_uj": 7, "window_start": HOUR + WINDOW_MS},
        {"active_uj": 100, "window_start": HOUR + 2 * WINDOW_MS, "final": 0, "version": 3},
        {"active_uj": 9, "window_start": HOUR + 3_600_000},
    ))  # fmt: skip
    sink.refresh_hours([HOUR + 5, HOUR + 3_600_000], ["eu"], ["chat"])
    first, second = warehouse.query(HOUR_ROWS)
    assert (first["active_uj"], first["idle_uj"], first["requests"], first["windows"]) == (12, 1, 2, 2)
    assert (second["active_uj"], second["hour"], second["windows"]) == (9, HOUR + 3_600_000, 1)


def test_only_the_requested_subjects_are_refreshed(warehouse: Warehouse, sink: Sink) -> None:
    sink.write(
        "ledger",
        rows("ledger", {"tenant": "a"}, {"tenant": "b", "workload": "batch"}, {"tenant": "c", "cluster": "us"}),
    )
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    assert [r["tenant"] for r in warehouse.query(HOUR_ROWS)] == ["a"]


def test_a_repeated_refresh_gives_the_same_rows(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", rows("ledger", {"active_uj": 5}, {"tenant": "b", "active_uj": 6}))
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    before = warehouse.query(HOUR_ROWS)
    sink.refresh_hours([HOUR, HOUR + 1], ["eu", "eu"], ["chat"])
    assert warehouse.query(HOUR_ROWS) == before
    warehouse.command("OPTIMIZE TABLE ledger FINAL")
    warehouse.command("OPTIMIZE TABLE ledger_hour FINAL")
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    assert warehouse.query(HOUR_ROWS) == before


def test_every_change_of_an_hour_raises_its_version(warehouse: Warehouse, sink: Sink) -> None:
    epoch = FIRST_FINAL + (1 << 24)
    changes: list[Table] = [
        row("ledger", active_uj=1, version=epoch),
        row("ledger", active_uj=2, window_start=HOUR + WINDOW_MS, version=epoch),
        row("ledger", active_uj=3, version=epoch + 1, revision=1),
        row("ledger", active_uj=4, window_start=HOUR + WINDOW_MS, version=epoch + 1, revision=1),
        gone({"window_start": HOUR + WINDOW_MS}, version=epoch + 2),
        row("ledger", active_uj=5, version=epoch + (1 << 24)),
    ]
    versions, energies = [], []
    for change in changes:
        sink.write("ledger", change)
        sink.refresh_hours([HOUR], ["eu"], ["chat"])
        (row_,) = warehouse.query(HOUR_ROWS)
        versions.append(row_["version"])
        energies.append(row_["active_uj"])
    assert versions == sorted(set(versions))
    assert energies == [1, 3, 5, 7, 3, 5]


def test_provisional_rows_do_not_change_the_hour(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", row("ledger", active_uj=1))
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    before = warehouse.query(HOUR_ROWS)
    sink.write("ledger", row("ledger", window_start=HOUR + WINDOW_MS, active_uj=9, final=0, version=123_456_789))
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    assert warehouse.query(HOUR_ROWS) == before


def test_a_key_that_a_restatement_removes_leaves_the_hour_and_may_return(warehouse: Warehouse, sink: Sink) -> None:
    sink.write("ledger", rows("ledger", {"tenant": "a", "active_uj": 5}, {"tenant": "__idle__", "idle_uj": 6}))
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    sink.write("ledger", gone({"tenant": "__idle__"}, version=FIRST_FINAL + 1))
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    assert [r["tenant"] for r in warehouse.query(HOUR_ROWS)] == ["a"]
    sink.write("ledger", row("ledger", tenant="__idle__", idle_uj=8, version=FIRST_FINAL + 2))
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    assert [(r["tenant"], r["idle_uj"]) for r in warehouse.query(HOUR_ROWS)] == [("__idle__", 8), ("a", 0)]


def test_an_hour_without_ledger_rows_is_cleared_and_a_replay_restores_it(warehouse: Warehouse, sink: Sink) -> None:
    stored = rows("ledger", {"active_uj": 5}, {"active_uj": 6, "window_start": HOUR + WINDOW_MS})
    sink.write("ledger", stored)
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    before = warehouse.query(HOUR_ROWS)
    warehouse.command("TRUNCATE TABLE ledger")
    for _ in range(2):
        sink.refresh_hours([HOUR], ["eu"], ["chat"])
        assert warehouse.query(HOUR_ROWS) == []
    sink.write("ledger", stored)
    sink.refresh_hours([HOUR], ["eu"], ["chat"])
    assert warehouse.query(HOUR_ROWS) == before


def test_many_workloads_are_refreshed_in_bounded_statements(warehouse: Warehouse, sink: Sink) -> None:
    names = [f"workload-{i:05}" + "x" * 150 for i in range(1200)]
    sink.write("ledger", rows("ledger", *({"workload": name, "active_uj": 1} for name in names)))
    sink.refresh_hours([HOUR], ["eu"], names)
    assert warehouse.query("SELECT count() AS n, sum(active_uj) AS uj FROM ledger_hour FINAL") == [
        {"n": 1200, "uj": 1200}
    ]


def test_the_newest_checkpoint_of_a_partition_is_loaded(warehouse: Warehouse, sink: Sink) -> None:
    assert sink.load_checkpoint("log", 3) is None
    assert warehouse.ask("sink/claim_top")[0]["epoch"] == 0
    for version, epoch in ((1, 4), (2, 5)):
        sink.write("marks", row("marks", log_partition=3, version=version, epoch=epoch, final_end=HOUR + version))
    sink.write("marks", row("marks", log_partition=4, version=1, epoch=9))
    mark = sink.load_checkpoint("log", 3)
    assert mark is not None
    assert list(mark) == list(SCHEMAS["marks"])
    assert (mark["epoch"], mark["final_end"], mark["state"]) == (5, HOUR + 2, "{}")
    assert warehouse.ask("sink/claim_top")[0]["epoch"] == 9


def test_stored_keys_are_the_live_rows_of_that_partition_from_that_time_on(sink: Sink) -> None:
    late = HOUR + WINDOW_MS
    expected = {}
    for name in KEYS:
        live_row = row(name, window_start=late)
        sink.write(name, rows(name, {}, {"window_start": late, "log_partition": 1, "workload": "other"}))
        sink.write(name, live_row)
        expected[name] = keys(name, live_row)
    sink.write("ledger", row("ledger", window_start=late, tenant="gone"))
    sink.write("ledger", gone({"window_start": late, "tenant": "gone"}, version=FIRST_FINAL + 1))
    assert sink.stored_keys("log", 0, late) == expected
    assert sink.stored_keys("other", 0, late) == {name: [] for name in KEYS}


def test_too_many_stored_keys_are_an_error_not_a_full_memory(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "MAX_KEYS", 2)
    sink.write("ledger", rows("ledger", {"tenant": "a"}, {"tenant": "b"}))
    assert len(sink.stored_keys("log", 0, 0)["ledger"]) == 2
    sink.write("gpu_energy", row("gpu_energy"))
    with pytest.raises(LedgerError, match="more than 2 rows"):
        sink.stored_keys("log", 0, 0)


def test_facts_are_read_as_written(sink: Sink) -> None:
    written = {
        name: row(
            name,
            **{c: 41 for c in schema if c.endswith(("_uj", "_tokens", "_mtok"))},
            **{c: [{5: 1, 200: 3}] for c, kind in schema.items() if kind == "histogram"},
        )
        for name, schema in SCHEMAS.items()
        if name in KEYS
    }
    for name, table in written.items():
        sink.write(name, table)
        sink.write(name, row(name, workload="other"))
    facts = sink.facts(HOUR, "eu", "chat")
    for name, table in written.items():
        assert list(facts[name]) == list(table)
        for column, kind in SCHEMAS[name].items():
            assert list(facts[name][column]) == list(table[column]), column
            if kind == "text":
                assert isinstance(facts[name][column], DictionaryColumn)
            elif kind == "histogram":
                assert isinstance(facts[name][column], HistogramColumn)
            else:
                assert isinstance(facts[name][column], np.ndarray)
                assert facts[name][column].dtype == table[column].dtype  # type: ignore[union-attr]


def test_facts_of_an_unknown_window_are_empty_tables(sink: Sink) -> None:
    facts = sink.facts(HOUR, "eu", "chat")
    assert {name: length(table) for name, table in facts.items()} == dict.fromkeys(KEYS, 0)
    assert all(list(facts[name]) == list(SCHEMAS[name]) for name in KEYS)


def test_facts_of_many_windows_are_exactly_those_windows(sink: Sink) -> None:
    starts = [HOUR + i * WINDOW_MS for i in range(450)]
    sink.write(
        "ledger", rows("ledger", *({"window_start": s, "workload": w} for s in starts for w in ("chat", "it's")))
    )
    keys = [(s, "eu", "chat") for s in starts[::2]] + [(starts[1], "eu", "it's")]
    stored_rows = sink.facts_many(keys)["ledger"]
    assert sorted(
        zip(stored_rows["window_start"], stored_rows["cluster"], stored_rows["workload"], strict=True)
    ) == sorted(keys)


def test_the_rows_of_a_window_are_counted_over_all_tables(sink: Sink) -> None:
    sink.write("ledger", rows("ledger", {"window_start": HOUR}, {"window_start": HOUR, "tenant": "other"}))
    sink.write("token_usage", rows("token_usage", {"window_start": HOUR}))
    keys = [(HOUR, "eu", "chat"), (HOUR + WINDOW_MS, "eu", "chat")]
    assert sink.rows_in(keys) == {(HOUR, "eu", "chat"): 3}
