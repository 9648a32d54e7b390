"""The simulated tables answer as ClickHouse does: the same writes in any order, then the same queries to both."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from contracts import rows
from contracts.histogram import LATENCIES
from contracts.rows import KEYS, SCHEMAS, Table
from streams.core import row_versions
from tests.simulation.tables import AMOUNTS, PAYER, Tables, rows_of
from warehouse.client import Warehouse
from warehouse.sink.sink import Sink

HOUR_MS = 3_600_000
T0 = 1_700_002_800_000 - 2_000
"""Two windows before a full hour."""


def _row(rng: Random, name: str) -> dict[str, Any]:
    """A row with one of few keys, so that rows collide."""
    row: dict[str, Any] = {}
    for column, kind in SCHEMAS[name].items():
        if kind == "text":
            row[column] = rng.choice("ab")
        elif kind == "histogram":
            row[column] = {}
        elif column in ("window_start", "final_end", "t_start", "t_end", "last_event"):
            row[column] = T0 + 1_000 * rng.randrange(4)
        else:
            row[column] = rng.randrange(3)
    row["log_id"], row["log_partition"] = "log", rng.randrange(2)
    epoch, late = rng.randrange(1, 4), rng.randrange(3)
    row["version"] = (
        row_versions.final(epoch, late) if rng.random() < 0.7 else row_versions.provisional(rng.randrange(9))
    )
    if name == "ledger":
        row["final"] = int(row["version"] >= row_versions.final(0, 0))
    if "window_ms" in row:
        row["window_ms"] = 1_000
    if "epoch" in row:
        row["epoch"] = epoch
    # Rows of one key and version are equal, as the stream job's rows are.
    dice = Random(str([row[c] for c in (*KEYS.get(name, ()), "version")]))
    for column, kind in SCHEMAS[name].items():
        if kind != "text" and column.endswith(("_uj", "tokens", "_mtok", "work", "requests", "failures")):
            row[column] = dice.randrange(100)
        if kind == "histogram":
            row[column] = {bucket: dice.randrange(1, 9) for bucket in dice.sample(range(9), dice.randrange(4))}
    if "deleted" in row:
        row["deleted"] = int(dice.random() < 0.25)
        row["revision"] = dice.randrange(3)
    return row


def _table(name: str, some: list[dict[str, Any]]) -> Table:
    return rows.conform(name, {c: [row[c] for row in some] for c in SCHEMAS[name]})


@pytest.mark.parametrize("seed", range(8))
def test_the_same_writes_give_the_same_reads(warehouse: Warehouse, seed: int) -> None:
    rng, sink, tables = Random(seed), Sink(warehouse), Tables()
    arguments = ([T0, T0 + HOUR_MS], ["a", "b"], ["a", "b"])
    for _ in range(12):
        name = rng.choice(list(KEYS))
        table = _table(name, [_row(rng, name) for _ in range(rng.randrange(1, 30))])
        sink.write(name, table)
        tables.write(name, rows_of(name, table))
        if rng.random() < 0.4:
            sink.refresh_hours(*arguments)
            tables.put_hours(tables.hours_of(*arguments))
    for partition in (0, 1):
        for after_ms in (T0, T0 + 2_000):
            real = sink.stored_keys("log", partition, after_ms)
            simulated = tables.stored_keys("log", partition, after_ms)
            assert {n: sorted(k) for n, k in real.items()} == {n: sorted(k) for n, k in simulated.items()}
    windows = [(T0 + 1_000 * n, c, w) for n in range(4) for c in "ab" for w in "ab"]
    real_facts, simulated_facts = sink.facts_many(windows), tables.facts_many(windows)
    for name in KEYS:
        assert sorted(rows_of(name, real_facts[name])) == sorted(rows_of(name, simulated_facts[name]))
    assert _hours(warehouse) == tables.live_hours()


def _hours(warehouse: Warehouse) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = warehouse.query(
        f"SELECT toUnixTimestamp64Milli(hour) AS hour_ms, {', '.join([*PAYER, *AMOUNTS])}, "
        f"windows, method, revision, {', '.join(LATENCIES)} FROM ledger_hour FINAL"
    )
    key = 1 + len(PAYER)
    return {tuple(row.values())[:key]: tuple(row.values())[key:] for row in rows}


@pytest.mark.parametrize("seed", range(4))
def test_marks_and_claims_are_read_alike(warehouse: Warehouse, seed: int) -> None:
    rng, sink, tables = Random(100 + seed), Sink(warehouse), Tables()
    for _ in range(10):
        mark = _table("marks", [_row(rng, "marks")])
        sink.write("marks", mark)
        tables.write("marks", rows_of("marks", mark))
        numbers, epoch, owner = sorted(rng.sample(range(3), 2)), rng.randrange(9), rng.choice("xyz")
        claim = {"log_id": "log", "log_partitions": numbers, "epoch": epoch, "owner": owner}
        warehouse.execute("sink/claim_put", **claim)
        tables.claim_put("log", numbers, epoch, owner)
        assert warehouse.ask("sink/claim_top")[0]["epoch"] == tables.max_epoch()
        (others,) = warehouse.ask("sink/claim_others", log_id="log", log_partitions=numbers, owner=owner)
        assert others["epoch"] == tables.claim_others("log", numbers, owner)
        for partition in (0, 1):
            assert sink.load_checkpoint("log", partition) == tables.load_checkpoint("log", partition)


def test_rows_are_plain_values_in_the_order_of_the_schema() -> None:
    table = _table("marks", [_row(Random(1), "marks")])
    (row,) = rows_of("marks", table)
    assert [type(v) for v in row] == [str if kind == "text" else int for kind in SCHEMAS["marks"].values()]
    assert not any(isinstance(v, np.generic) for v in row)
