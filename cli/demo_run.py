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
from cli.audit_entries import recorded_change
from cli.demo_history import LIVE_START_MS
from cli.embedded import Pipeline, running_pipeline
from cli.log_feed import (
    STALL_S,
    FeedProgress,
    LogFeed,
    StallWatch,
    raise_if_crashed,
    run_unless_crashed,
    wait_until_stored,
)
from cli.settled_ledger import read_settled
from contracts.errors import Unavailable
from contracts.events import Event, PowerBatch
from contracts.settings import Settings
from contracts.units import EpochMs, rfc3339
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import SimulatedFleet
from warehouse.audit.conservation import audit
from warehouse.audit.holdings import Holdings
from warehouse.audit.report import Audit
from warehouse.chargeback.chargeback_queries import DIMENSIONS, chargeback_all
from warehouse.client import Warehouse
from warehouse.ledger.fingerprint import fingerprint
from warehouse.periods import Period
from warehouse.reader import operator_reader

LEDGER_MS = 600_000
"""Length of the demo's first ledger, in event time."""
LEDGER = Period(EpochMs(LIVE_START_MS), EpochMs(LIVE_START_MS + LEDGER_MS))
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


class _Metered:
    """The workloads with energy in one window. Once it is final for all of them, so is every window before it."""

    def __init__(self, start_ms: int, window_ms: int) -> None:
        self._start_ms, self._end_ms = start_ms, start_ms + window_ms
        self._workloads: set[tuple[str, str]] = set()

    def noted(self, events: Iterator[Event]) -> Iterator[Event]:
        """Yield events, and note the workloads that have energy in the window."""
        for event in events:
            batch = event.batch
            if isinstance(batch, PowerBatch) and ((batch.t0_ms < self._end_ms) & (batch.t1_ms > self._start_ms)).any():
                self._workloads.add((event.cluster, event.workload))
            yield event

    async def wait_until_final(self, running: Pipeline) -> None:
        """Wait until the window is final. Raises Unavailable after STALL_S without progress, or the worker's error."""
        missing, stall = self._workloads, StallWatch()
        while missing:
            raise_if_crashed(running.crashed)
            rows = await asyncio.to_thread(running.warehouse.ask, "ledger/metered_workloads", start_ms=self._start_ms)
            missing = self._workloads - {(row["cluster"], row["workload"]) for row in rows}
            if stall.is_stalled(missing):
                raise Unavailable(
                    f"the first ledger is not final after {STALL_S:g} s: {len(missing)} workloads lack it",
                    "See the worker's log above.",
                )
            await asyncio.sleep(0.1)


class DemoRun:
    """Runs the demo. With `leave`, it ends after the first ledger; otherwise it continues until cancelled."""

    def __init__(self, settings: Settings, seed: int, display: DemoDisplay, *, leave: bool) -> None:
        self._settings, self._seed, self._display, self._leave = settings, seed, display, leave

    def _store_history(self, warehouse: Warehouse) -> demo_history.StoredHistory:
        with recorded_change(self._settings, "reference_data.put", demo_history.SIMULATED_FLEET):
            return demo_history.store_history(warehouse, self._settings, self._seed)

    async def run(self) -> None:
        """Start all parts, show the first ledger and, unless the demo ends there, stream on."""
        histories: list[demo_history.StoredHistory] = []
        async with contextlib.AsyncExitStack() as stack:
            running = await stack.enter_async_context(
                running_pipeline(
                    self._settings,
                    self._display.step,
                    lambda w: histories.append(self._store_history(w)),
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
            result = await read_settled(
                running.warehouse, LEDGER, demo_history.clusters(), running.crashed,
                lambda held: self._result(running, held),
            )  # fmt: skip
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
        until_ms = None if self._leave else LEDGER.end + s.lateness_ms + 2 * (s.skew_ms + s.window_ms)
        next_window = _Metered(LEDGER.end, s.window_ms)
        await feed.run(next_window.noted(events), lambda _: None, until_ms)
        await asyncio.to_thread(feed.publisher.flush)
        if self._leave:
            await wait_until_stored(running.warehouse, running.log_id, feed.sent, running.crashed)
        else:
            await next_window.wait_until_final(running)
        self._display.step(
            f"stream: {feed.sent.rows} readings and requests of {LEDGER_MS // 60_000} minutes and more, SIMULATED"
        )

    def _result(self, running: Pipeline, held: Holdings) -> DemoResult | None:
        """Return the ledger; None if its parts are not the sums that the tables hold."""
        reader, requests = operator_reader(running.warehouse), running.settings.requests
        tenants, report = chargeback_all(reader, LEDGER, by=("tenant",)), audit(reader, LEDGER, requests=requests)
        charged_uj = report.active_uj + report.idle_uj + report.unallocated_uj
        if {sum(row.energy_uj for row in tenants), report.measured_uj, charged_uj} != {held.charged_uj}:
            return None
        sha256 = fingerprint(running.warehouse, LEDGER, demo_history.clusters())
        return DemoResult(tenants, report, sha256, LEDGER.start, LEDGER.end)

    async def _stream_on(self, running: Pipeline, publisher: Publisher, events: Iterator[Event]) -> None:
        """Send events at LIVE_SPEED until cancelled. Raises the worker's error if it ends."""
        feed = LogFeed(publisher, running.stream_worker, running.settings.skew_ms, speed=LIVE_SPEED)
        counter = itertools.count()

        def progress(sent: FeedProgress) -> None:
            if next(counter) % 50 == 0:
                self._display.live(sent)

        await run_unless_crashed(feed.run(events, progress), running.crashed)
