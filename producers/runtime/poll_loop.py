"""Loop that polls all sources but GPUs: counters of servers, meters, logs. The clock is injected.

A read of a source leads from a checkpoint to the next: it returns the rows since then, and the new checkpoint. Both are
stored together (`producers.runtime.spool`). So a producer that is killed, or whose disk is full, reads again from the
checkpoint on disk. Nothing is lost as long as the source still has it, and nothing is counted twice.

A source that raises an exception of any class is read again from its checkpoint, at its next interval. After `PATIENCE`
failures in a row the pause doubles each time, up to `MAX_BACKOFF_MS`.
A batch that breaks the event contract is refused alone.

One thread reads all sources in turn. So a source that does not answer delays its neighbours by its own limit, which
bounds its whole read (`producers.common.time_limit`), and for as long as it fails by that only once in its pause.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from contracts import topics
from contracts.events import Event
from producers.api import Environment, PolledSource, PollResult, WorkloadBatch
from producers.runtime.clock import Clock
from producers.runtime.delivery import encode_message
from producers.runtime.event_sequence import Sequencer, event_of, source_of
from producers.runtime.metrics_server import serve_metrics
from producers.runtime.outbox import Outbox, open_outbox
from producers.runtime.rare_log import RareLog
from producers.runtime.refusals import RefusalReport, read_each, refusal
from producers.runtime.spool import Outgoing

log = logging.getLogger(__name__)

CHECKPOINT_PREFIX = "source/"
"""Prefix of a checkpoint's name in the spool; the source's name follows."""
PUMP_S = 1.0
"""Longest wait between two deliveries to the broker."""
PATIENCE = 3
"""Failures in a row of a source before the loop waits longer than its interval."""
MAX_BACKOFF_MS = 60_000


def run_polled_sources(
    name: str, sources: Sequence[PolledSource], environment: Environment, kafka: Mapping[str, object]
) -> None:
    """Poll sources until `stop`; `name` is the spool's."""
    serve_metrics(environment.settings, environment.metrics)
    metrics = PollLoopMetrics(environment.metrics)
    with open_outbox(environment, name, kafka) as (spool, delivery):
        PollLoop(sources, delivery, environment.clock, spool.checkpoints(), metrics).run()


class PollLoopMetrics:
    """Prometheus metrics of a poll loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"wattlog_producer_{name}", text, labels, registry=registry)

        self.rows = count("source_rows", "Rows read and kept for the broker", "source")
        self.refused = count("source_refused_rows", "Rows that could not be read, and are left out", "source")
        self.skipped = count("source_skipped_rows", "Rows that were read and do not count", "source", "why")
        self.restarts = count("source_restarts", "Restarts of what is read, so that its counters began at 0", "source")
        self.corrected = count("source_corrected_rows", "Rows that count with a value corrected", "source", "why")
        self.errors = count("source_errors", "Times that a source could not be read; it is tried again", "source")
        label = ["source"]
        self.up = Gauge("wattlog_producer_source_up", "1 if the source was read last time", label, registry=registry)
        self.read_ms = Gauge(
            "wattlog_producer_source_read_timestamp_ms", "When the source was last read", label, registry=registry
        )
        self.refusals = RefusalReport(registry)


class PollLoop:
    """Loop that reads each source when it is due and lets the outbox send.

    `checkpoints` are those that an earlier run stored.
    """

    def __init__(
        self, sources: Sequence[PolledSource], outbox: Outbox, clock: Clock, checkpoints: Mapping[str, bytes],
        metrics: PollLoopMetrics,
    ) -> None:  # fmt: skip
        self._sources, self._outbox, self._clock, self._metrics = sources, outbox, clock, metrics
        self._numbers = Sequencer(clock.wall_ms())
        self._checkpoints = {source.name: checkpoints.get(CHECKPOINT_PREFIX + source.name) for source in sources}
        self._due_ms = {source.name: clock.monotonic_ms() for source in sources}
        self._failures: dict[str, int] = {}
        """Consecutive failures, by source."""
        self._restart_logs: dict[str, RareLog] = {}

    def run(self, close_s: float = 30.0) -> None:
        """Poll until the clock says stop, then send for up to `close_s` seconds. The rest waits on disk."""
        while True:
            self.poll_due()
            wait_ms = min(self._due_ms.values()) - self._clock.monotonic_ms()
            if self._clock.wait(min(max(wait_ms / 1000, 0.0), PUMP_S)):
                break
        deadline_ms = self._clock.monotonic_ms() + close_s * 1000
        while self._outbox.waiting and self._clock.monotonic_ms() < deadline_ms:
            self._outbox.pump(0.1)
        if self._outbox.waiting:
            log.warning("%d events wait on disk; the next run sends them", self._outbox.waiting)

    def poll_due(self) -> None:
        """Read each source that is due, once."""
        for source in self._sources:
            due_ms = self._due_ms[source.name]
            if self._clock.monotonic_ms() >= due_ms and not self._read(source):
                late_ms = self._clock.monotonic_ms() - due_ms
                next_ms = due_ms + source.every_ms * (late_ms // source.every_ms + 1)
                self._due_ms[source.name] = next_ms + self._backoff_ms(source)
            self._outbox.pump()

    def _backoff_ms(self, source: PolledSource) -> int:
        doublings = self._failures.get(source.name, 0) - PATIENCE
        return min(source.every_ms * 2 ** min(doublings, 16), MAX_BACKOFF_MS) if doublings > 0 else 0

    def _read(self, source: PolledSource) -> bool:
        """Read a source once and store its rows. Return True if more can be read at once."""
        name = source.name
        try:
            result = source.collect(self._checkpoints[name], self._clock)
        except Exception as error:  # Of any class: a source never ends the process, and never the other sources.
            self._failures[name] = self._failures.get(name, 0) + 1
            self._failed(name, error)
            return False
        try:
            events, refused = self._store(source, result)
        except Exception as error:  # Of any class: a result that is none, or a spool that takes no more.
            self._failures.setdefault(name, 1)
            self._failed(name, error)
            return False
        self._checkpoints[name] = result.checkpoint
        self._report(name, result, events, refused)
        return result.more

    def _store(self, source: PolledSource, result: PollResult) -> tuple[list[Event], list[str]]:
        """Store a result's events with its checkpoint. Return the events, and the reasons of refused batches.

        Raises Unavailable where there is no room; then nothing is stored.
        """
        self._outbox.heed_claims(self._numbers, self._clock.wall_ms())
        events: list[Event] = []
        messages: list[Outgoing] = []
        refused: list[str] = []
        placed = ((f"batch {n} of {len(result.batches)}", batch) for n, batch in enumerate(result.batches, 1))
        try:
            for event, message in read_each(placed, partial(self._message, source), refused):
                events.append(event)
                messages.append(message)
            self._outbox.offer(messages, {CHECKPOINT_PREFIX + source.name: result.checkpoint})
        except Exception:
            for event in reversed(events):
                self._numbers.take_back(event.source, event.seq)
            raise
        return events, refused

    def _message(self, source: PolledSource, batch: WorkloadBatch) -> tuple[Event, Outgoing]:
        """Return the next event of a batch, with its message. Raises what the event contract refuses it with."""
        topics.check_name("cluster", batch.cluster)
        topics.check_name("workload", batch.workload)
        event = self._event(source, batch)
        try:
            return event, encode_message(event)
        except Exception:
            self._numbers.take_back(event.source, event.seq)
            raise

    def _failed(self, name: str, error: Exception) -> None:
        self._metrics.errors.labels(name).inc()
        self._metrics.up.labels(name).set(0)
        self._metrics.refusals.add(name, [refusal(error)], self._clock.monotonic_ms(), outcome="tried again")
        log.debug("%s", name, exc_info=error)

    def _report(self, name: str, result: PollResult, events: Sequence[Event], refused: Sequence[str]) -> None:
        refusals = [*result.refused, *refused]
        self._metrics.refused.labels(name).inc(len(refusals))
        self._metrics.refusals.add(name, refusals, self._clock.monotonic_ms())
        for reason, rows in result.skipped.items():
            self._metrics.skipped.labels(name, reason).inc(rows)
        if result.restarts:
            self._metrics.restarts.labels(name).inc(len(result.restarts))
            log_of_source = self._restart_logs.setdefault(name, RareLog(log, self._monotonic_s))
            log_of_source.write(logging.WARNING, f"{name}: {'; '.join(result.restarts)}")
        for reason, rows in result.corrected.items():
            self._metrics.corrected.labels(name, reason).inc(rows)
        for note in result.notes:
            log.warning("%s: %s", name, note)
        if self._failures.pop(name, 0):
            log.warning("%s can be read again", name)
        self._metrics.rows.labels(name).inc(sum(len(event.batch) for event in events))
        self._metrics.up.labels(name).set(1)
        self._metrics.read_ms.labels(name).set(self._clock.wall_ms())

    def _monotonic_s(self) -> float:
        return self._clock.monotonic_ms() / 1000

    def _event(self, source: PolledSource, rows: WorkloadBatch) -> Event:
        sender = source_of(source.kind, rows.cluster, rows.node or source.name, rows.workload)
        return event_of(self._numbers, sender, rows.cluster, rows.workload, rows.batch)
