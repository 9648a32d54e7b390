"""Workers that store no single requests: the same ledger, balanced, and the audit says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from cli.embedded import running_pipeline
from contracts.settings import Settings
from producers.simulation.events import FleetTotals, SimulatedFleet
from tests.streams.driven_worker import Driven, ledger, settings
from tests.streams.sample_log import Sent, interval, request, two_windows
from tests.support.pipeline import assert_ledger_is, feed
from warehouse.audit.conservation import audit
from warehouse.client import Warehouse, connect
from warehouse.reader import operator_reader

START_MS = 1_758_000_000_000


@pytest.mark.slow
def test_the_pipeline_stores_ledger_and_facts_and_no_single_request(chdb_dsn: str, data_dir: Path) -> None:
    place = Settings(
        data=data_dir, kafka_bootstrap="embedded", lateness_ms=2_000, skew_ms=1_000, log_level="ERROR", requests="none"
    )
    totals = FleetTotals()
    events = list(SimulatedFleet(3).events(START_MS, 30_000, totals=totals, closing_ms=23_000))

    async def run() -> None:
        async with running_pipeline(place, lambda _: None) as running:
            await feed(running, events)

    with connect(chdb_dsn, database="default", readers=1) as admin:
        admin.command("DROP DATABASE IF EXISTS wattlog")
        try:
            asyncio.run(run())
            with connect(chdb_dsn, readers=1) as warehouse:
                assert_ledger_is(warehouse, totals)
                rows = {t: count(warehouse, t) for t in ("gpu_energy", "token_usage", "request_energy")}
                report = audit(operator_reader(warehouse), requests="none")
        finally:
            admin.command("DROP DATABASE IF EXISTS wattlog")
    assert rows["gpu_energy"] and rows["token_usage"]
    assert rows["request_energy"] == 0
    assert (report.ok, report.request_windows, report.request_windows_partly) == (True, 0, 0)


def count(warehouse: Warehouse, table: str) -> int:
    return int(warehouse.query(f"SELECT count() AS n FROM {table} FINAL")[0]["n"])


def joules(warehouse: Warehouse) -> dict[str, int]:
    """The energy of each single request of the first window, in microjoules."""
    rows = warehouse.query(
        "SELECT request_id, active_uj + idle_uj AS uj FROM request_energy FINAL "
        "WHERE window_start = (SELECT min(window_start) FROM ledger FINAL)"
    )
    return {row["request_id"]: row["uj"] for row in rows}


def run(warehouse: Warehouse, sent: Sent, requests: Literal["all", "none"], *steps: Callable[[], Any]) -> None:
    """A worker with this setting continues the log, and stores after each step."""
    driven = Driven(warehouse, sent.log, settings=settings(requests=requests))

    async def all_steps() -> None:
        await driven.stream_worker.assign([0])
        for step in (lambda: None, *steps):
            step()
            await driven.read()
            await driven.stream_worker.store_once()

    asyncio.run(all_steps())


def test_stored_requests_stay_right_when_late_ones_are_not_stored(warehouse: Warehouse) -> None:
    sent = two_windows()
    run(warehouse, sent, "all")
    before = joules(warehouse)
    assert set(before) == {"r0", "r1"}
    assert audit(operator_reader(warehouse)).request_windows == 2
    run(warehouse, sent, "none", lambda: sent.tokens(request(3, name="late")))
    assert ledger(warehouse) == sent.oracle()
    after = joules(warehouse)
    # Three alike bear what two did.
    assert {name: round(uj / before[name], 5) for name, uj in after.items()} == {"r0": 0.66667, "r1": 0.66667}
    report = audit(operator_reader(warehouse), requests="none")
    assert (report.ok, report.request_windows, report.request_windows_partly) == (True, 1, 1)
    assert not audit(operator_reader(warehouse)).balanced  # The rows of workers that store all requests are missing.


def test_late_energy_reaches_earlier_requests_though_none_are_stored_now(warehouse: Warehouse) -> None:
    sent = two_windows()
    run(warehouse, sent, "all")
    run(warehouse, sent, "none", lambda: sent.power(interval(2, gpu="late-gpu")))
    assert ledger(warehouse) == sent.oracle()
    report = audit(operator_reader(warehouse))
    assert (report.ok, report.request_windows, report.request_windows_partly) == (True, 2, 0)


def test_late_requests_of_windows_without_stored_ones_are_a_part_and_no_residual(warehouse: Warehouse) -> None:
    sent = two_windows()
    run(warehouse, sent, "none")
    assert joules(warehouse) == {}
    run(warehouse, sent, "all", lambda: sent.tokens(request(3, name="late")))
    assert ledger(warehouse) == sent.oracle()
    charged = sum(active + idle for (start, *_), (active, idle, *_) in sent.oracle().items() if start == first(sent))
    assert abs(joules(warehouse)["late"] - charged / 3) <= 1
    report = audit(operator_reader(warehouse))
    assert (report.ok, report.request_windows, report.request_windows_partly) == (True, 0, 1)


def first(sent: Sent) -> int:
    return int(min(start for start, *_ in sent.oracle()))
