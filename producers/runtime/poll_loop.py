"""The loop of everything but GPUs that is read every so often: servers' counters, meters, logs. Time is injected.

A source is a step from a mark to the next: what has come since, and where it stands now. Both are kept on disk together
(`producers.runtime.spool`), so a producer that is killed, or whose disk is full, reads again from the mark that
holds: nothing is lost as long as the source still has it, and nothing is counted twice.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from contracts.errors import WattlogError
from contracts.events import Event
from producers.api import Environment, PolledSource, WorkloadBatch
from producers.runtime.clock import Clock
from producers.runtime.delivery import Outbox
from producers.runtime.event_sequence import Sequencer, event_of, source_of
from producers.runtime.outbox import open_outbox, serve_metrics

log = logging.getLogger(__name__)

MARK = "source/"
"""Before a source's name: the name of its mark."""
MAX_TOLD = 10
"""Refused rows of one look that are told one by one."""
PUMP_S = 1.0
"""How long broker and sources wait for each other at most."""


def run_polled_sources(
    name: str, sources: Sequence[PolledSource], environment: Environment, kafka: Mapping[str, object]
) -> None:
    """Poll sources until `stop`; `name` is the spool's."""
    serve_metrics(environment.settings, environment.metrics)
    with open_outbox(environment.settings, name, kafka) as (spool, delivery):
        Collector(sources, delivery, environment.clock, spool.marks(), Metrics(environment.metrics)).run()


class Metrics:
    """A collector's own Prometheus metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"wattlog_producer_{name}", text, labels, registry=registry)

        self.rows = count("source_rows", "Rows read and kept for the broker", "source")
        self.refused = count("source_refused_rows", "Rows that could not be read, and are left out", "source")
        self.skipped = count("source_skipped_rows", "Rows that were read and do not count", "source", "why")
        self.errors = count("source_errors", "Times that a source could not be read; it is tried again", "source")
        label = ["source"]
        self.up = Gauge("wattlog_producer_source_up", "1 if the source was read last time", label, registry=registry)
        self.read_ms = Gauge(
            "wattlog_producer_source_read_timestamp_ms", "When the source was last read", label, registry=registry
        )


class Collector:
    """Reads its sources, each when it is due, and has the outbox send what it can. `marks` are an earlier run's."""

    def __init__(
        self,
        sources: Sequence[PolledSource],
        outbox: Outbox,
        clock: Clock,
        marks: Mapping[str, bytes],
        metrics: Metrics,
    ) -> None:
        self._sources, self._outbox, self._clock, self._metrics = sources, outbox, clock, metrics
        self._numbers = Sequencer(clock.wall_ms())
        self._marks = {s.name: marks.get(MARK + s.name) for s in sources}
        self._due_ms = {s.name: clock.monotonic_ms() for s in sources}
        self._failing: set[str] = set()

    def run(self, close_s: float = 30.0) -> None:
        """Until the clock says stop; then sends what it can within `close_s` seconds. The rest waits on disk."""
        while True:
            self.round()
            wait_ms = min(self._due_ms.values()) - self._clock.monotonic_ms()
            if self._clock.wait(min(max(wait_ms / 1000, 0.0), PUMP_S)):
                break
        deadline_ms = self._clock.monotonic_ms() + close_s * 1000
        while self._outbox.waiting and self._clock.monotonic_ms() < deadline_ms:
            self._outbox.pump(0.1)
        if self._outbox.waiting:
            log.warning("%d events wait on disk; the next run sends them", self._outbox.waiting)

    def round(self) -> None:
        """Read each source that is due, once."""
        for source in self._sources:
            due_ms = self._due_ms[source.name]
            if self._clock.monotonic_ms() >= due_ms and not self._read(source):
                late_ms = self._clock.monotonic_ms() - due_ms
                self._due_ms[source.name] = due_ms + source.every_ms * (late_ms // source.every_ms + 1)
            self._outbox.pump()

    def _read(self, source: PolledSource) -> bool:
        """Read a source once and keep what it gave; whether there is more."""
        name = source.name
        try:
            collected = source.collect(self._marks[name], self._clock)
            events = [self._event(source, made) for made in collected.batches]
            try:
                self._outbox.offer(events, {MARK + name: collected.checkpoint})
            except WattlogError:
                for event in reversed(events):
                    self._numbers.take_back(event)
                raise
        except WattlogError as error:
            self._metrics.errors.labels(name).inc()
            self._metrics.up.labels(name).set(0)
            log.log(logging.DEBUG if name in self._failing else logging.ERROR, "%s is tried again: %s", name, error)
            self._failing.add(name)
            return False
        self._marks[name] = collected.checkpoint
        self._tell(name, collected.refused)
        for why, rows in collected.skipped.items():
            self._metrics.skipped.labels(name, why).inc(rows)
        for note in collected.notes:
            log.warning("%s: %s", name, note)
        if name in self._failing:
            log.warning("%s can be read again", name)
            self._failing.discard(name)
        self._metrics.rows.labels(name).inc(sum(len(event.batch) for event in events))
        self._metrics.up.labels(name).set(1)
        self._metrics.read_ms.labels(name).set(self._clock.wall_ms())
        return collected.more

    def _tell(self, name: str, refused: Sequence[str]) -> None:
        self._metrics.refused.labels(name).inc(len(refused))
        for why in refused[:MAX_TOLD]:
            log.warning("left out: %s", why)
        if len(refused) > MAX_TOLD:
            log.warning("left out: %d more of %s", len(refused) - MAX_TOLD, name)

    def _event(self, source: PolledSource, made: WorkloadBatch) -> Event:
        sender = source_of(source.kind, made.cluster, made.node or source.name, made.workload)
        return event_of(self._numbers, sender, made.cluster, made.workload, made.batch)
