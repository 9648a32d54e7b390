"""The demo's run: the full pipeline on one machine, from a SIMULATED fleet to a balanced ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from api.serialization import plain_rows
from cli import demo_history
from cli.api_server import running_api
from cli.demo_history import LIVE_START_MS
from cli.embedded import Pipeline, running_pipeline
from cli.log_feed import FeedProgress, LogFeed, run_unless_crashed, wait_until_stored
from contracts.errors import Unavailable
from contracts.events import Event
from contracts.settings import Settings
from contracts.units import EpochMs, rfc3339
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import SimulatedFleet
from streams.startup import worker_error
from warehouse.audit.conservation import audit
from warehouse.audit.report import Audit
from warehouse.chargeback.chargeback_queries import DIMENSIONS, chargeback_all
from warehouse.ledger.fingerprint import fingerprint
from warehouse.periods import Period
from warehouse.reader import operator_reader

LEDGER_MS = 600_000
"""Length of the demo's first ledger, in event time."""
FINAL_WAIT_S = 60.0
LIVE_SPEED = 10.0
"""Event time per wall time after the first ledger."""


@dataclass(frozen=True)
class DemoResult:
    """The demo's first ledger."""

    tenants: list[Any]
    audit: Audit
    ledger_sha256: str
    start_ms: int
    end_ms: int

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON for other programs: energies as integers, money as strings."""
        a = self.audit
        return {
            "ledger": plain_rows(self.tenants, exclude=[name for name in DIMENSIONS if name != "tenant"]),
            "measured_uj": a.measured_uj, "active_uj": a.active_uj, "idle_uj": a.idle_uj,
            "unallocated_uj": a.unallocated_uj,
            "residual_uj": a.residual_uj, "ledger_sha256": self.ledger_sha256, "simulated": True,
            "window_start": rfc3339(self.start_ms), "window_end": rfc3339(self.end_ms),
        }  # fmt: skip


class DemoDisplay(Protocol):
    """Shows the progress and the results of a demo."""

    def step(self, text: str) -> None:
        """Show that a part is up or a step is finished."""
        ...

    def result(self, result: DemoResult, address: str, planted: tuple[str, ...]) -> None:
        """Show the first ledger, the API's address and the anomalies planted in the history."""
        ...

    def live(self, sent: FeedProgress) -> None:
        """Show the state of the live stream."""
        ...


class DemoRun:
    """Runs the demo. With `leave`, it ends after the first ledger; otherwise it continues until cancelled."""

    def __init__(self, settings: Settings, seed: int, display: DemoDisplay, *, leave: bool) -> None:
        self._settings, self._seed, self._display, self._leave = settings, seed, display, leave

    async def run(self) -> None:
        """Start all parts, show the first ledger and, unless the demo ends there, stream on."""
        histories: list[demo_history.StoredHistory] = []
        async with contextlib.AsyncExitStack() as stack:
            running = await stack.enter_async_context(
                running_pipeline(
                    self._settings,
                    self._display.step,
                    lambda w: histories.append(demo_history.store_history(w, self._settings, self._seed)),
                )
            )
            (stored,) = histories
            self._display.step(f"history: {stored.rows} rows over {stored.hours} hours, SIMULATED")
            address = await stack.enter_async_context(running_api(running.settings, running.warehouse))
            self._display.step(f"API and page: {address}")
            publisher = stack.enter_context(Publisher(kafka_config(running.settings)))
            feed = LogFeed(publisher, running.stream_worker, running.settings.skew_ms)
            events = self._events()
            await self._stream_first_ledger(running, feed, events)
            result = await asyncio.to_thread(self._result, running)
            self._display.result(result, address, stored.planted)
            if not self._leave:
                await self._stream_on(running, publisher, events)

    def _events(self) -> Iterator[Event]:
        s = self._settings
        fleet = SimulatedFleet(self._seed)
        if not self._leave:
            return fleet.events(LIVE_START_MS)
        closing_ms = s.lateness_ms + s.skew_ms + 2 * s.window_ms
        return fleet.events(LIVE_START_MS, LEDGER_MS + closing_ms, closing_ms=closing_ms)

    async def _stream_first_ledger(self, running: Pipeline, feed: LogFeed, events: Iterator[Event]) -> None:
        """Send the events of the first ledger, and wait until it is final."""
        s = running.settings
        until_ms = None if self._leave else LIVE_START_MS + LEDGER_MS + s.lateness_ms + 2 * (s.skew_ms + s.window_ms)
        await feed.run(events, lambda _: None, until_ms)
        await asyncio.to_thread(feed.publisher.flush)
        if self._leave:
            await wait_until_stored(running.warehouse, running.log_id, feed.sent, running.crashed)
        else:
            await self._wait_until_final(running)
        self._display.step(
            f"stream: {feed.sent.rows} readings and requests of {LEDGER_MS // 60_000} minutes and more, SIMULATED"
        )

    async def _wait_until_final(self, running: Pipeline) -> None:
        """Wait until the last window of the first ledger is final for every workload of the fleet."""
        workloads = {(cluster, workload) for cluster, _, workload, *_ in SimulatedFleet(self._seed).spec.groups()}
        for _ in range(int(FINAL_WAIT_S / 0.1)):
            if running.crashed is not None and running.crashed.done():
                raise worker_error(running.crashed.result())
            rows = await asyncio.to_thread(
                running.warehouse.ask,
                "ledger/metered_workloads",
                start_ms=LIVE_START_MS + LEDGER_MS,
            )
            if rows[0]["n"] >= len(workloads):
                return
            await asyncio.sleep(0.1)
        raise Unavailable(f"the first ledger was not final within {FINAL_WAIT_S:g} s", "See the worker's log above.")

    def _result(self, running: Pipeline) -> DemoResult:
        reader, requests = operator_reader(running.warehouse), running.settings.requests
        start_ms, end_ms = LIVE_START_MS, LIVE_START_MS + LEDGER_MS
        period = Period(EpochMs(start_ms), EpochMs(end_ms))
        return DemoResult(
            chargeback_all(reader, period, by=("tenant",)),
            audit(reader, period, requests=requests),
            fingerprint(running.warehouse, period, demo_history.clusters()),
            start_ms,
            end_ms,
        )

    async def _stream_on(self, running: Pipeline, publisher: Publisher, events: Iterator[Event]) -> None:
        """Send events at LIVE_SPEED until cancelled. Raises the worker's error if it ends."""
        feed = LogFeed(publisher, running.stream_worker, running.settings.skew_ms, speed=LIVE_SPEED)
        counter = itertools.count()

        def progress(sent: FeedProgress) -> None:
            if next(counter) % 50 == 0:
                self._display.live(sent)

        await run_unless_crashed(feed.run(events, progress), running.crashed)
