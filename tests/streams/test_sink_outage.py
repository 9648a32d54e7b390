"""The warehouse away: its log messages, by a clock of the test; and for real under load, WATTLOG_OUTAGE_S seconds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import BadQuery, Unavailable
from streams import metrics
from streams import retrying_sink as store_module
from streams.retrying_sink import PATIENCE_MS, RetryingSink
from streams.sink_outage import SLACK_MS, SinkOutage
from tests.streams.driven_worker import T0, Driven, ledger, worker_clock
from tests.streams.outage import MAX_OPEN_ROWS, Endpoint, away, endpoint, settings_for
from tests.streams.sample_log import two_windows
from tests.support.clocks import FakeClock
from warehouse.client import Warehouse, connect

IDLE_MS = 30_000


def test_an_outage_is_logged_with_its_length_the_waiting_rows_and_the_recovery() -> None:
    outage = SinkOutage(IDLE_MS)
    assert outage.note_lag(T0, 9_000, False) is None  # the usual lag
    outage.note_refused(T0, T0 + 200)
    outage.note_refused(T0, T0 + 299_000)
    assert outage.away_s(T0 + 299_000) == 299.0
    assert outage.refused_ms == T0 + 299_000
    assert outage.note_lag(T0 + 299_500, 308_000, True) is None
    message = outage.note_accepted(T0 + 300_000, 1_000, 70_000)
    assert message == "the warehouse takes writes again after 300.0 s; 70000 rows wait in memory"
    assert outage.away_s(T0 + 300_001) == 0
    assert outage.note_accepted(T0 + 302_000, 59_000, 20_000) is None
    assert outage.catchup_rows_per_s(T0 + 302_000) == 30_000
    assert outage.note_lag(T0 + 302_000, 200_000, False) is None
    assert outage.note_lag(T0 + 303_000, 9_000, True) is None  # all is read, not all is stored
    assert outage.note_accepted(T0 + 304_000, 60_000, 0) is None
    message = outage.note_lag(T0 + 304_500, 9_000 + SLACK_MS, False)
    assert message == "caught up with the warehouse's outage in 4.0 s: 120000 rows, 30000 a second"
    assert outage.catchup_rows_per_s(T0 + 305_000) == 0
    assert outage.note_lag(T0 + 306_000, 9_000, False) is None


def test_a_silent_fleet_has_recovered_when_nothing_is_left_to_store() -> None:
    outage = SinkOutage(IDLE_MS)
    outage.note_lag(T0, 9_000, False)
    outage.note_refused(T0, T0 + 1_000)
    outage.note_accepted(T0 + 10_000, 500, 0)
    assert outage.note_lag(T0 + 10_000 + IDLE_MS - 1, 50_000, True) is None
    assert outage.note_lag(T0 + 10_000 + IDLE_MS, 50_000, True) is not None


def test_accepted_writes_log_nothing() -> None:
    outage = SinkOutage(IDLE_MS)
    assert [outage.note_accepted(T0 + n, 10, 0) for n in range(3)] == [None] * 3
    assert outage.exclude_outage(T0 + 3) == T0 + 3


def test_two_outages_in_a_row_count_as_one_for_the_idle_timeout() -> None:
    outage = SinkOutage(IDLE_MS)
    outage.note_refused(T0, T0 + 1)
    outage.note_accepted(T0 + 60_000, 1, 0)
    outage.note_refused(T0 + 61_000, T0 + 62_000)
    outage.note_accepted(T0 + 100_000, 1, 0)
    assert outage.exclude_outage(T0 + 101_000) == T0 + 1_000


def refusing(clock: FakeClock, error: Exception, times: int) -> tuple[list[int], object]:
    tried: list[int] = []

    def work() -> str:
        tried.append(clock.now_ms)
        clock.now_ms += 1_000
        if len(tried) <= times:
            raise error
        return "done"

    return tried, work


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The length of each wait."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(store_module.asyncio, "sleep", sleep)
    return waits


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("full", "Free it.", reason="disk_full"), "disk_full"),
        (Unavailable("away", "Check."), "away"),
        (BadQuery("query", "x", "narrow"), "too_much"),
        (OSError(28, "No space left on device"), "disk_full"),
        (OSError(5, "Input/output error"), "disk"),
    ],
)
def test_a_transient_failure_is_retried_without_limit_and_counted_by_reason(
    quick: list[float], error: Exception, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = worker_clock()
    store = RetryingSink(None, clock, IDLE_MS)  # type: ignore[arg-type]
    _, work = refusing(clock, error, 400)
    before = metrics.STORE_RETRIES.labels(reason)._value.get()
    assert asyncio.run(store.until_accepted(work)) == "done"  # type: ignore[arg-type]
    assert metrics.STORE_RETRIES.labels(reason)._value.get() - before == 400
    assert quick[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert set(quick[6:]) == {store_module.RETRY_MAX_S}
    assert f"({reason})" in caplog.text


def test_a_lasting_failure_is_retried_for_a_minute_and_then_ends_the_worker(quick: list[float]) -> None:
    clock = worker_clock()
    store = RetryingSink(None, clock, IDLE_MS)  # type: ignore[arg-type]
    error = Unavailable("The warehouse lacks a table", "Run `wattlog migrate`.", reason="no_table", lasting=True)
    tried, work = refusing(clock, error, 10**9)
    with pytest.raises(Unavailable, match="wattlog migrate"):
        asyncio.run(store.until_accepted(work))  # type: ignore[arg-type]
    assert PATIENCE_MS // 1_000 <= len(tried) <= PATIENCE_MS // 1_000 + 1


def test_a_lasting_failure_that_is_fixed_in_time_does_not_end_the_worker(quick: list[float]) -> None:
    clock = worker_clock()
    store = RetryingSink(None, clock, IDLE_MS)  # type: ignore[arg-type]
    error = Unavailable("refuses this user", "Check.", reason="no_access", lasting=True)
    _, work = refusing(clock, error, 30)
    assert asyncio.run(store.until_accepted(work)) == "done"  # type: ignore[arg-type]


def test_a_worker_waits_for_a_missing_table_and_continues_when_it_is_there(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_FIRST_S", 0.002)
    sent = two_windows()
    driven = Driven(warehouse, sent.log)

    async def run() -> None:
        await driven.stream_worker.assign([0])
        await driven.read()
        warehouse.command("RENAME TABLE token_usage TO elsewhere")
        before = metrics.STORE_RETRIES.labels("no_table")._value.get()
        storing = asyncio.create_task(driven.stream_worker.store_once())
        while metrics.STORE_RETRIES.labels("no_table")._value.get() < before + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        warehouse.command("RENAME TABLE elsewhere TO token_usage")
        await storing

    asyncio.run(run())
    assert ledger(warehouse) == sent.oracle()


@pytest.fixture
def server(chdb_dsn: str, chdb_root: Path) -> Iterator[Endpoint]:
    with connect(chdb_dsn, database="default", readers=1) as warehouse, endpoint(chdb_root) as instance:
        warehouse.command("DROP DATABASE IF EXISTS wattlog")
        yield instance
        warehouse.command("DROP DATABASE IF EXISTS wattlog")


@pytest.mark.slow
def test_an_absent_clickhouse_under_load_loses_nothing_and_memory_is_bounded(server: Endpoint, tmp_path: Path) -> None:
    """Reading waits at the bound; afterwards the ledger equals the sent events, to the microjoule."""
    seconds = float(os.environ.get("WATTLOG_OUTAGE_S", "5"))
    report = asyncio.run(away(server, settings_for(tmp_path), seconds))
    assert report.retries >= 3
    assert report.paused_s > 0
    assert MAX_OPEN_ROWS < report.most_rows < 2 * MAX_OPEN_ROWS
    assert report.refused_s >= report.away_s - 0.01  # Read off two clocks.
    assert report.caught_up_rows > 0
