"""A stage takes the place of exactly the windows that it fills, and a cut leaves the old rows or the new ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.ledger_rows import FIRST_FINAL, HOUR, WINDOW_MS, row
from warehouse.audit.holdings import holdings
from warehouse.client import Warehouse
from warehouse.ledger.staging import create_stage, finish_stages, mark_ready, promote
from warehouse.periods import Period
from warehouse.sink.sink import Sink

DAY = 86_400_000
SPAN = Period(HOUR - DAY, HOUR + 40 * DAY)


@pytest.fixture(scope="session")
def dsn(chdb_dsn: str) -> str:
    """The embedded one only: stages of an embedded log are seldom on a server."""
    return chdb_dsn


def store(warehouse: Warehouse, start: int, uj: int, epoch: int, *, gpu: str = "G1", **values: Any) -> None:
    """Store a balanced window as a worker does, its hour included."""
    sink, at = Sink(warehouse), {"window_start": start, "version": FIRST_FINAL + (epoch << 28), **values}
    facts = {k: v for k, v in at.items() if k != "tenant"}
    sink.write("gpu_energy", row("gpu_energy", energy_uj=uj, gpu_uuid=gpu, **facts))
    sink.write("ledger", row("ledger", active_uj=uj, **at))
    sink.refresh_hours([start], [at.get("cluster", "eu")], ["chat"])


def staged(ledger: Warehouse, *windows: tuple[int, int], **values: Any) -> Warehouse:
    """A complete stage of a recording with these windows (start, energy)."""
    stage = create_stage(ledger, "eu")
    epoch = Sink(stage).claim("embedded/new", [0], "replay")
    for start, uj in windows:
        store(stage, start, uj, epoch, log_id="embedded/new", **values)
    mark_ready(stage)
    stage.close()
    return stage


def tenants(ledger: Warehouse) -> list[tuple[int, str, int]]:
    rows = ledger.query(
        "SELECT toUnixTimestamp64Milli(window_start) AS at, tenant, active_uj FROM ledger FINAL "
        "ORDER BY at, tenant, active_uj"
    )
    return [((r["at"] - HOUR) // WINDOW_MS, r["tenant"], r["active_uj"]) for r in rows]


def assert_held(ledger: Warehouse, uj: int) -> None:
    """Assert that facts, ledger, hours and days hold this energy."""
    held = holdings(ledger, SPAN, ["eu", "us"])
    assert (held.shortfalls, held.measured_uj) == ([], uj)
    for table in ("ledger_hour", "ledger_day"):
        assert ledger.query(f"SELECT sum(active_uj) AS uj FROM {table} FINAL")[0]["uj"] == uj


def test_a_stage_replaces_the_windows_that_it_fills_and_no_others(warehouse: Warehouse) -> None:
    for number in range(3):
        store(warehouse, HOUR + number * WINDOW_MS, 10, 1, log_id="embedded/old", tenant="renamed")
    store(warehouse, HOUR + WINDOW_MS, 7, 1, log_id="embedded/old", cluster="us")
    store(warehouse, HOUR + 31 * DAY, 5, 1, log_id="embedded/april")
    promote(warehouse, staged(warehouse, (HOUR + WINDOW_MS, 3)).database)
    assert tenants(warehouse) == [
        (0, "renamed", 10), (1, "acme", 3), (1, "acme", 7), (2, "renamed", 10), (31 * DAY // WINDOW_MS, "acme", 5),
    ]  # fmt: skip
    assert_held(warehouse, 10 + 3 + 7 + 10 + 5)


def test_rows_that_the_new_replay_lacks_are_gone_from_its_windows(warehouse: Warehouse) -> None:
    store(warehouse, HOUR, 10, 1, log_id="embedded/old")
    store(warehouse, HOUR, 4, 1, log_id="embedded/old", tenant="gone", gpu="G9")
    promote(warehouse, staged(warehouse, (HOUR, 3)).database)
    assert tenants(warehouse) == [(0, "acme", 3)]
    assert_held(warehouse, 3)


@pytest.mark.parametrize(("old_ms", "new_ms"), [(60_000, 10_000), (10_000, 60_000)])
def test_windows_of_another_length_are_replaced_where_they_overlap(
    warehouse: Warehouse, old_ms: int, new_ms: int
) -> None:
    store(warehouse, HOUR + (50_000 if old_ms < new_ms else 0), 10, 1, log_id="embedded/old", window_ms=old_ms)
    store(warehouse, HOUR + 60_000, 8, 1, log_id="embedded/old", window_ms=old_ms)
    promote(warehouse, staged(warehouse, (HOUR + (0 if old_ms < new_ms else 20_000), 3), window_ms=new_ms).database)
    assert [uj for _, _, uj in tenants(warehouse)] == [3, 8]
    assert_held(warehouse, 11)


def test_the_same_replay_again_and_again_changes_nothing(warehouse: Warehouse) -> None:
    for _ in range(3):
        promote(warehouse, staged(warehouse, (HOUR, 3), (HOUR + WINDOW_MS, 4)).database)
        assert_held(warehouse, 7)


class _CutError(Exception):
    """The end of a process."""


@pytest.mark.parametrize("statements", [0, 4, 6, 9, 11, 12, 13])
def test_a_replay_that_was_cut_while_it_was_moved_is_completed(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, statements: int
) -> None:
    store(warehouse, HOUR, 10, 1, log_id="embedded/old", tenant="renamed")
    stage = staged(warehouse, (HOUR, 3))
    left, command = [statements], Warehouse.command

    def cut(self: Warehouse, sql: str, **params: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise _CutError
        command(self, sql, **params)

    with monkeypatch.context() as patch:
        patch.setattr(Warehouse, "command", cut)
        with pytest.raises(_CutError):
            promote(warehouse, stage.database)
    assert finish_stages(warehouse) == int(statements < 13)
    assert finish_stages(warehouse) == 0
    assert tenants(warehouse) == [(0, "acme", 3)]
    assert_held(warehouse, 3)


def test_a_replay_that_was_cut_before_it_was_complete_leaves_the_ledger_as_it_was(warehouse: Warehouse) -> None:
    store(warehouse, HOUR, 10, 1, log_id="embedded/old")
    with create_stage(warehouse, "eu") as stage:
        store(stage, HOUR, 3, 9, log_id="embedded/new")
    assert finish_stages(warehouse) == 0
    assert tenants(warehouse) == [(0, "acme", 10)]
    assert_held(warehouse, 10)
