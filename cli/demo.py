"""`wattlog demo`: the whole line on one machine, on a SIMULATED fleet, from nothing to a balanced ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api.serialization import plain_rows
from cli import simulation
from cli.embedded import Line, line, running_api
from cli.feed import Feed, Sent, fed, stored
from cli.simulation import LIVE_START_MS
from contracts.errors import Unavailable
from contracts.events import Event
from contracts.settings import Settings
from contracts.units import EpochMs, rfc3339
from producers.runtime.publisher import Publisher, kafka_config
from producers.simulation.events import SimulatedFleet
from streams.startup import worker_error
from warehouse.audit.conservation import Audit, audit
from warehouse.chargeback.chargeback_queries import DIMENSIONS, chargeback_all
from warehouse.ledger.fingerprint import fingerprint
from warehouse.periods import Period
from warehouse.reader import operator_reader

SHOWN_MS = 600_000
"""So much of the stream is in the demo's first ledger."""
FINAL_WAIT_S = 60.0
LIVE_SPEED = 10.0
"""How fast event time passes once the first ledger is shown."""


@dataclass(frozen=True)
class Result:
    """The demo's first ledger."""

    tenants: list[Any]
    audit: Audit
    ledger_sha256: str
    start_ms: int
    end_ms: int

    def as_json(self) -> dict[str, Any]:
        """The JSON that other programs may rely on: energies integers, money strings."""
        a = self.audit
        return {
            "ledger": plain_rows(self.tenants, exclude=[name for name in DIMENSIONS if name != "tenant"]),
            "measured_uj": a.measured_uj, "active_uj": a.active_uj, "idle_uj": a.idle_uj,
            "unallocated_uj": a.unallocated_uj,
            "residual_uj": a.residual_uj, "ledger_sha256": self.ledger_sha256, "simulated": True,
            "window_start": rfc3339(self.start_ms), "window_end": rfc3339(self.end_ms),
        }  # fmt: skip


class Demo:
    """`tick` is told of each part, `show` of the first ledger, `live` of the stream's state from then on."""

    def __init__(self, settings: Settings, seed: int, tick: Any, show: Any, live: Any) -> None:
        self._settings, self._seed = settings, seed
        self._tick, self._show, self._live = tick, show, live

    async def run(self, *, leave: bool) -> None:
        """Bring everything up, show the first ledger, and go on until cancelled; with `leave`, end there."""
        laid: list[simulation.LaidDown] = []
        async with contextlib.AsyncExitStack() as stack:
            running = await stack.enter_async_context(
                line(
                    self._settings,
                    self._tick,
                    lambda w: laid.append(simulation.lay_down(w, self._settings, self._seed)),
                )
            )
            self._tick(f"history: {laid[0].rows} rows over {laid[0].hours} hours, SIMULATED")
            address = await stack.enter_async_context(running_api(running.settings, running.warehouse))
            self._tick(f"API and page: {address}")
            publisher = stack.enter_context(Publisher(kafka_config(running.settings)))
            feed = Feed(publisher, running.stream_worker, running.settings.skew_ms)
            events = self._events(leave)
            await self._first(running, feed, events, leave)
            result = await asyncio.to_thread(self._result, running)
            self._show(result, address, laid[0].planted)
            if not leave:
                await self._go_on(running, publisher, events)

    def _events(self, leave: bool) -> Iterator[Event]:
        s = self._settings
        enough_ms = SHOWN_MS + s.lateness_ms + s.skew_ms + 2 * s.window_ms
        fleet = SimulatedFleet(self._seed)
        if leave:
            return fleet.events(LIVE_START_MS, enough_ms, closing_ms=s.lateness_ms + s.skew_ms + 2 * s.window_ms)
        return fleet.events(LIVE_START_MS)

    async def _first(self, running: Line, feed: Feed, events: Iterator[Event], leave: bool) -> None:
        """Feed what the first ledger needs, and wait until it is final."""
        s = running.settings
        until_ms = None if leave else LIVE_START_MS + SHOWN_MS + s.lateness_ms + 2 * s.skew_ms + 2 * s.window_ms
        await feed.run(events, lambda _: None, until_ms)
        await asyncio.to_thread(feed.publisher.flush)
        if leave:
            await stored(running.warehouse, running.log_id, feed.sent, running.crashed)
        else:
            await self._until_final(running)
        self._tick(
            f"stream: {feed.sent.rows} readings and requests of {SHOWN_MS // 60_000} minutes and more, SIMULATED"
        )

    async def _until_final(self, running: Line) -> None:
        """Wait until the last window shown is final for every workload of the fleet."""
        workloads = {(cluster, workload) for cluster, _, workload, *_ in SimulatedFleet(self._seed).spec.groups()}
        for _ in range(int(FINAL_WAIT_S / 0.1)):
            if running.crashed is not None and running.crashed.done():
                raise worker_error(running.crashed.result())
            rows = await asyncio.to_thread(
                running.warehouse.ask,
                "ledger/metered_workloads",
                start_ms=LIVE_START_MS + SHOWN_MS,
            )
            if rows[0]["n"] >= len(workloads):
                return
            await asyncio.sleep(0.1)
        raise Unavailable(f"the first ledger was not final within {FINAL_WAIT_S:g} s", "See the worker's log above.")

    def _result(self, running: Line) -> Result:
        reader, requests = operator_reader(running.warehouse), running.settings.requests
        start_ms, end_ms = LIVE_START_MS, LIVE_START_MS + SHOWN_MS
        period = Period(EpochMs(start_ms), EpochMs(end_ms))
        return Result(
            chargeback_all(reader, period, by=("tenant",)),
            audit(reader, period, requests=requests),
            fingerprint(running.warehouse, period, simulation.clusters()),
            start_ms,
            end_ms,
        )

    async def _go_on(self, running: Line, publisher: Publisher, events: Iterator[Event]) -> None:
        """Go on feeding, paced, until cancelled or the worker ends."""
        feed = Feed(publisher, running.stream_worker, running.settings.skew_ms, speed=LIVE_SPEED)
        told = itertools.count()

        def progress(sent: Sent) -> None:
            if next(told) % 50 == 0:
                self._live(sent)

        await fed(feed.run(events, progress), running.crashed)
