"""ClickHouse away under load, for any time: `python -m tests.streams.outage SECONDS`, or `away(...)` in a test.

A real Faust worker on librdkafka's in-process broker writes over HTTP. The endpoint is taken away (connections are
refused) while a simulated fleet continues to send, and returns. The report has the bounds, the waits and the rate of
catching up. The caller asserts that nothing was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client import REGISTRY

from cli.embedded import Pipeline, running_pipeline
from cli.log_feed import LogFeed, run_unless_crashed, wait_until_stored
from contracts.settings import Settings
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import FleetTotals, SimulatedFleet
from tests.support.clickhouse_http import Faults, serve
from tests.support.pipeline import assert_ledger_is, until
from warehouse.audit.conservation import audit
from warehouse.client import connect
from warehouse.reader import operator_reader

START_MS = 1_758_000_000_000
DURING_MS, AROUND_MS = 360_000, 60_000
"""Event time that passes while the warehouse is away, and before and after it together: more than `MAX_OPEN_ROWS`
hold, and less than the in-process broker does.
"""
MAX_OPEN_ROWS = 10_000

Announcer = Callable[[str], None]


@dataclass
class Report:
    """Figures of an outage."""

    away_s: float = 0.0
    """Duration of the endpoint's absence."""
    refused_s: float = 0.0
    """Duration of the outage as the worker reports it: until its next try."""
    most_rows: int = 0
    """Largest number of rows in memory."""
    paused_s: float = 0.0
    """Time for which reading waited."""
    retries: float = 0.0
    """Tries refused by an absent endpoint."""
    caught_up_s: float = 0.0
    caught_up_rows: int = 0

    @property
    def rows_per_s(self) -> float:
        return self.caught_up_rows / max(self.caught_up_s, 0.001)


class Endpoint:
    """ClickHouse's HTTP interface over a chdb folder, on one port, present or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack, self._port = folder, contextlib.ExitStack(), 0
        self._faults = Faults()
        self.address = ""
        self.start()

    def start(self) -> None:
        self._faults.away = False
        self.address = self._stack.enter_context(serve(self._folder, self._faults, self._port))
        self._port = urlsplit(self.address).port or 0

    def stop(self) -> None:
        """Cut open connections, and refuse new ones."""
        self._faults.away = True
        self._stack.close()


@contextmanager
def endpoint(folder: Path) -> Iterator[Endpoint]:
    server = Endpoint(folder)
    try:
        yield server
    finally:
        server.stop()


async def away(server: Endpoint, settings: Settings, seconds: float, announce: Announcer = lambda _: None) -> Report:
    """Take the warehouse away for this long under load; return when all events are final and stored.

    Raises AssertionError where the ledger or the audit differs from the sent events.
    """
    report, totals = Report(), FleetTotals()
    settings = settings.model_copy(
        update={"warehouse_dsn": server.address, "max_open_rows": MAX_OPEN_ROWS, "batch_messages": 16}
    )
    closing_ms = settings.lateness_ms + settings.skew_ms + 2 * settings.window_ms
    events = SimulatedFleet(3).events(START_MS, DURING_MS + AROUND_MS, totals=totals, closing_ms=closing_ms)
    async with running_pipeline(settings, announce) as running:
        with Publisher(kafka_config(running.settings)) as publisher:
            feed = LogFeed(publisher, running.stream_worker, settings.skew_ms, speed=DURING_MS / 1000 / seconds)
            feeding = asyncio.create_task(run_unless_crashed(feed.run(events, lambda _: None), running.crashed))
            watching = asyncio.create_task(_watch(running, report))
            try:
                await until(running, lambda: _windows(running) > 0, "a window is final before the outage")
                await _take_away(running, server, seconds, report, announce)
                await feeding
                await wait_until_stored(running.warehouse, running.log_id, feed.sent, running.crashed)
                await until(running, lambda: report.caught_up_rows > 0, "rows were stored after the outage")
            finally:
                for task in (feeding, watching):
                    task.cancel()
                outcome = await asyncio.gather(watching, return_exceptions=True)
            assert isinstance(outcome[0], asyncio.CancelledError), outcome
        assert_ledger_is(running.warehouse, totals)
        audit_report = audit(operator_reader(running.warehouse))
        assert audit_report.ok, audit_report
    return report


async def _take_away(running: Pipeline, server: Endpoint, seconds: float, report: Report, announce: Announcer) -> None:
    """Stop the warehouse for `seconds`, and until three tries were refused and reading waits at the bound."""
    before = _retries()
    await asyncio.to_thread(server.stop)
    announce(f"the warehouse is away for {seconds:g} s")
    await until(running, lambda: _retries() > before, "the worker notices")
    since_s = time.monotonic()
    await asyncio.sleep(seconds)
    await until(running, lambda: _retries() >= before + 3, "the worker has tried three times")
    await until(running, lambda: report.paused_s > 0 and report.most_rows > MAX_OPEN_ROWS, "reading waits at the bound")
    report.away_s = time.monotonic() - since_s
    report.retries = _retries() - before
    await asyncio.to_thread(server.start)
    announce(f"it is back; {report.most_rows} rows wait")


async def _watch(running: Pipeline, report: Report) -> None:
    stream_worker = running.stream_worker
    assert stream_worker is not None
    outage, before_s = stream_worker._sink.outage, time.monotonic()
    while True:
        await asyncio.sleep(0.01)
        now_s = time.monotonic()
        report.most_rows = max(report.most_rows, stream_worker._bounds.rows())
        report.paused_s += now_s - before_s if REGISTRY.get_sample_value("wattlog_stream_paused") else 0.0
        began_ms, ended_ms = outage._last
        report.refused_s = max(report.refused_s, (ended_ms - began_ms) / 1000)
        if outage._back_ms is not None:
            report.caught_up_rows = outage.caught_rows
            report.caught_up_s = max(0.0, (outage._stored_ms - outage._back_ms) / 1000)
        before_s = now_s


def _retries() -> float:
    return REGISTRY.get_sample_value("wattlog_stream_store_retries_total", {"reason": "away"}) or 0.0


def _windows(running: Pipeline) -> int:
    return int(running.warehouse.query("SELECT count() AS n FROM ledger FINAL WHERE final = 1")[0]["n"])


def settings_for(data: Path) -> Settings:
    return Settings(
        data=data,
        kafka_bootstrap="embedded",
        lateness_ms=2_000,
        skew_ms=1_000,
        idle_timeout_ms=60_000,
        log_level="WARNING",
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "warehouse"
        with connect(f"chdb://{path}", database="default", readers=1), endpoint(path) as server:
            report = asyncio.run(
                away(server, settings_for(Path(folder)), seconds, lambda text: print(text, flush=True))
            )
    print(
        f"away {report.away_s:.1f} s, refused {report.refused_s:.1f} s ({report.retries:.0f} tries), reading paused "
        f"{report.paused_s:.1f} s, at most {report.most_rows} rows in memory (bound {MAX_OPEN_ROWS}); afterwards "
        f"{report.caught_up_rows} rows in {report.caught_up_s:.1f} s, {report.rows_per_s:.0f} a second; ledger exact"
    )


if __name__ == "__main__":
    main()
