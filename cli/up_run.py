"""The run of `wattlog up`: the ledger of one node, from its sources to its page."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import indent
from typing import NamedTuple

from api.auth import check_exposure
from cli.api_server import running_api
from cli.embedded import running_pipeline
from cli.ledger_access import mend, open_warehouse
from cli.log_feed import run_unless_crashed
from cli.up_reconciliation import HourlyReconciliation
from cli.up_sources import Sources
from contracts.errors import WattlogError
from contracts.settings import Settings
from contracts.units import joules
from producers.runtime.runner import OpenBroker
from streams import startup
from streams.disk_log.client import LogAppender
from streams.disk_log.log_file import DiskLog
from streams.disk_log.worker import running_disk_worker
from warehouse.audit.names import recent_names_apart, sentence
from warehouse.client import Warehouse
from warehouse.periods import newest
from warehouse.reader import operator_reader

LOG_FILE = "log.db"
"""Name of the event log in the folder `data`."""
LOOK_S = 2.0
"""Pause between two looks at the ledger for first joules and tokens."""
LATE_MS = 600_000
"""How long before the start a window may begin that has this run's first joules or tokens: calls that were under way,
and those of the window in which it starts."""
PATIENCE_S = 600.0
"""How long first joules, tokens and final windows are looked for."""
NAMES_S = 60.0
"""Pause between two looks for workloads whose tokens and GPUs do not meet."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Ledger:
    """A running worker and its warehouse. `broker` is None where producers connect to Kafka."""

    settings: Settings
    warehouse: Warehouse
    crashed: asyncio.Future[BaseException] | None
    broker: OpenBroker | None


class UpRun:
    """Runs everything until cancelled, or until the worker ends. `step` shows progress, `warn` troubles."""

    def __init__(self, settings: Settings, step: Tell, warn: Tell) -> None:
        self._settings, self._step, self._warn = settings, step, warn

    async def run(self) -> None:
        """Start all parts, and wait. Raises the worker's error, BadSetting for wrong options, Unavailable."""
        check_exposure(self._settings)
        sources = Sources(self._settings, self._step, self._warn)
        async with contextlib.AsyncExitStack() as stack:
            open_ledger = self._on_disk if self._settings.embedded_broker else self._on_kafka
            ledger = await open_ledger(stack)
            progress = FirstSights(time.time_ns() // 1_000_000 - LATE_MS, self._step)
            await asyncio.to_thread(progress.note_earlier, ledger.warehouse)
            address = await stack.enter_async_context(running_api(ledger.settings, ledger.warehouse))
            self._step(f"page and API: {address}")
            await stack.enter_async_context(sources.running(ledger.settings, ledger.broker))
            await run_unless_crashed(self._watch(ledger.warehouse, progress), ledger.crashed)

    async def _on_disk(self, stack: contextlib.AsyncExitStack) -> _Ledger:
        """Run a worker on the log in the folder `data`."""
        settings = self._settings
        path = settings.data / LOG_FILE
        log = stack.enter_context(contextlib.closing(DiskLog(path, max_bytes=settings.spool_mb * 2**20)))
        self._step(f"event log: {path}")
        warehouse = stack.enter_context(open_warehouse(settings))
        # The log forgets what the warehouse has, so the warehouse must have it on disk.
        is_chosen = "durable" in settings.model_fields_set
        durable = settings.durable or None if is_chosen else warehouse.embedded or None
        await asyncio.to_thread(startup.prepare_warehouse, warehouse, durable=durable)
        await asyncio.to_thread(mend, warehouse, self._step)
        self._step(f"warehouse: {warehouse.where}")
        worker = await stack.enter_async_context(running_disk_worker(settings, log, warehouse))
        appender = LogAppender(log)
        stack.push_async_callback(asyncio.to_thread, appender.close)
        return _Ledger(settings, warehouse, worker.crashed, appender.client)

    async def _on_kafka(self, stack: contextlib.AsyncExitStack) -> _Ledger:
        """Run a worker on the settings' Kafka."""
        running = await stack.enter_async_context(running_pipeline(self._settings, self._step))
        return _Ledger(running.settings, running.warehouse, running.crashed, None)

    async def _watch(self, warehouse: Warehouse, progress: FirstSights) -> None:
        """Show the first joules, tokens and final windows of this run, and names and sources that do not meet."""
        reconciliation = HourlyReconciliation(self._warn)
        names: set[tuple[str, ...]] = set()
        until_s = time.monotonic() + PATIENCE_S
        names_s = time.monotonic() + NAMES_S
        while True:
            if progress.missing and time.monotonic() > until_s:
                self._warn(progress.give_up())
            await asyncio.sleep(LOOK_S if progress.missing else max(names_s - time.monotonic(), 0))
            try:
                if progress.missing:
                    await asyncio.to_thread(progress.show_new, warehouse)
                if time.monotonic() >= names_s:
                    names_s = time.monotonic() + NAMES_S
                    await asyncio.to_thread(self._show_names, warehouse, names)
                    now_ms = time.time_ns() // 1_000_000
                    await asyncio.to_thread(reconciliation.run_if_due, operator_reader(warehouse), now_ms)
            except WattlogError as error:
                self._warn(f"the ledger cannot be read now: {error}")

    def _show_names(self, warehouse: Warehouse, known: set[tuple[str, ...]]) -> None:
        """Name each workload whose tokens meet no GPU, once."""
        reader = operator_reader(warehouse)
        final_end = newest(reader).final_end
        for finding in recent_names_apart(reader, final_end)[:10] if final_end else ():
            names = (finding.cluster, finding.workload, finding.partner_cluster, finding.partner)
            if names not in known:  # Its hours grow from look to look.
                known.add(names)
                self._warn(f"{sentence(finding)}\n{indent(finding.join, '  ')}")


class _Sums(NamedTuple):
    """Energy, tokens and final rows of a workload."""

    energy_uj: int
    tokens: int
    final_rows: int


class FirstSights:
    """First joules, tokens and final windows in the windows since a time, each shown once.

    What an earlier run stored there (`note_earlier`) is none of them.
    """

    def __init__(self, since_ms: int, step: Tell) -> None:
        self._since_ms, self._step = since_ms, step
        self._earlier: dict[str, _Sums] = {}
        self.missing = {"joules", "tokens", "final windows"}

    def note_earlier(self, warehouse: Warehouse) -> None:
        """Note what the ledger has before anything of this run is in it."""
        self._earlier = self._sums(warehouse)

    def show_new(self, warehouse: Warehouse) -> None:
        """Show what the ledger has got since the last look."""
        for place, sums in self._sums(warehouse).items():
            earlier = self._earlier.get(place, _Sums(0, 0, 0))
            energy_uj, tokens = sums.energy_uj - earlier.energy_uj, sums.tokens - earlier.tokens
            if energy_uj > 0 and "joules" in self.missing:
                self._show("joules", f"first joules: {joules(energy_uj):,.1f} J of {place}")
            if tokens > 0 and "tokens" in self.missing:
                self._show("tokens", f"first tokens: {tokens:,} of {place}")
            if sums.final_rows > earlier.final_rows and "final windows" in self.missing:
                self._show("final windows", "first final window: the page and bills show it")

    def _sums(self, warehouse: Warehouse) -> dict[str, _Sums]:
        return {
            f"{row['cluster']}/{row['workload']}": _Sums(row["energy_uj"], row["tokens"], row["final_rows"])
            for row in warehouse.ask("ledger/since", since_ms=self._since_ms)
        }

    def give_up(self) -> str:
        """Look for no more. Return a sentence on what is missing."""
        missing, self.missing = sorted(self.missing), set()
        return (
            f"still missing after {PATIENCE_S / 60:g} minutes: {', '.join(missing)}. `wattlog doctor` checks each part"
        )

    def _show(self, name: str, text: str) -> None:
        self.missing.discard(name)
        self._step(text)
