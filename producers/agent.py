"""The agent of a node: samples its GPUs, turns readings into intervals, keeps them for the broker. Time is injected.

It never drops a joule. What it has measured is kept on disk (`producers.spool`) together with each GPU's mark: where
its counter stood when that was measured. The next run sends what was not acknowledged and goes on from the marks, so
what a GPU used while no agent ran is in its first interval. Where the disk takes no more, intervals stay in memory and
grow coarser, and the marks stay behind with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contracts import topics
from contracts.errors import Unavailable
from contracts.events import Event, PowerBatch
from contracts.units import UJ_PER_J
from producers.backlog import Backlog
from producers.clock import Clock
from producers.delivery import Outbox
from producers.meter import MAX_GAP_MS, Interval, Reading, State, step
from producers.numbering import Sequencer, event_of, power_batch, source_of

log = logging.getLogger(__name__)

MAX_BATCH_ROWS = 4_096
MARK = "gpu/"
"""Before a GPU's UUID: the name of its mark."""


class Sensor(Protocol):
    """Hardware. One reading of each GPU that is there."""

    def readings(self, clock: Clock) -> Sequence[Reading]: ...


@dataclass(slots=True, frozen=True)
class Binding:
    """Which workload holds a GPU, and which tenant pays when that is idle ("": nobody)."""

    workload: str
    owner: str = ""


@dataclass(slots=True, frozen=True)
class Mark:
    """Where an agent stands with a GPU. `boot` says in which run of the machine: counters and the monotonic clock begin
    anew with each."""

    boot: str
    holder: Binding
    state: State


@dataclass(slots=True, frozen=True)
class Node:
    """What an agent is told. `max_rows` bounds each workload's backlog. `boot` names this run of the machine; "" if
    that is not known: then marks of an earlier agent are of no use."""

    cluster: str
    node: str
    sample_ms: int = 1_000
    publish_ms: int = 5_000
    kind: str = "nvml"
    max_rows: int = 20_000
    boot: str = ""


class Metrics:
    """The agent's own Prometheus metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str) -> Counter:
            return Counter(f"wattlog_producer_{name}", text, registry=registry)

        self.rows = count("rows", "Intervals kept for the broker")
        self.events = count("events", "Events kept for the broker, heartbeats too")
        self.joules = count("joules", "Energy of those intervals")
        self.resets = count("counter_resets", "Energy counters that went back or leapt: a new epoch")
        self.gaps = count("gaps", "Stretches in which nothing measured a GPU")
        self.clock_steps = count("clock_steps", "Times that the wall clock was set back by more than a minute")
        self.send_errors = count("send_errors", "Messages refused or not acknowledged; they are sent again")
        self.spool_errors = count("spool_errors", "Times that the spool took no more; rows stay in memory, coarser")
        self.sample_errors = count("sample_errors", "Samples in which the sensor failed as a whole")
        self.backlog_rows = Gauge(
            "wattlog_producer_backlog_rows", "Intervals that are in memory only", registry=registry
        )
        self.spooled = Gauge(
            "wattlog_producer_spooled_events", "Events that the broker is not known to have", registry=registry
        )
        self.sample_seconds = Histogram(
            "wattlog_producer_sample_seconds", "Time to read all GPUs once", registry=registry
        )


class Agent:
    """One node's loop. `bindings` maps a GPU's UUID to its holder; a GPU that is not in it is unallocated. `marks` are
    those that an earlier run left."""

    def __init__(
        self,
        node: Node,
        sensor: Sensor,
        outbox: Outbox,
        clock: Clock,
        bindings: Callable[[], Mapping[str, Binding]],
        metrics: Metrics | None = None,
        marks: Mapping[str, bytes] | None = None,
    ) -> None:
        topics.check_name("cluster", node.cluster)
        topics.check_name("node", node.node)
        self._node, self._sensor, self._outbox, self._clock = node, sensor, outbox, clock
        self._bindings = bindings
        self.metrics = metrics or Metrics(CollectorRegistry())
        self._numbers = Sequencer(clock.wall_ms())
        self._unallocated = Binding(topics.node_workload(node.node))
        self._max_gap_ms = max(MAX_GAP_MS, 3 * node.sample_ms)
        self._states: dict[str, State] = {}
        self._holders: dict[str, Binding] = {}
        self._backlogs: dict[Binding, Backlog] = {}
        self._failures = 0
        self._resume(marks or {})

    def run(self) -> None:
        """Samples and publishes until the clock says stop, then sends what it can. Raises Unavailable for energy that
        could not even be kept."""
        node, clock = self._node, self._clock
        next_sample = next_publish = clock.monotonic_ms()
        next_publish += node.publish_ms
        try:
            while True:
                self.sample()
                now = clock.monotonic_ms()
                if now >= next_publish:
                    self.publish()
                    next_publish = now + node.publish_ms - (now - next_publish) % node.publish_ms
                # Samples that were missed are not made up for: the counter bridges them.
                next_sample += node.sample_ms * ((now - next_sample) // node.sample_ms + 1)
                if clock.wait((next_sample - clock.monotonic_ms()) / 1000):
                    break
            self.sample()  # up to the very end
        finally:
            self.close()

    def sample(self) -> None:
        """Reads every GPU once and files its completed intervals under the workload that held it when they began."""
        begun = self._clock.monotonic_ms()
        bindings = self._bindings()
        try:
            readings = self._sensor.readings(self._clock)
        except Unavailable as error:
            self.metrics.sample_errors.inc()
            log.error("no reading: %s", error)
            return
        known = len(self._states)
        for reading in readings:
            self._take(reading, bindings.get(reading.gpu_uuid, self._unallocated))
        if len(self._states) > known:
            self._keep([], "where GPUs stood at first")
        self.metrics.sample_seconds.observe((self._clock.monotonic_ms() - begun) / 1000)
        self.metrics.backlog_rows.set(self.unsent_rows)

    def publish(self) -> None:
        """Keeps one event a workload, its rows or a heartbeat, and has the outbox send what it can."""
        self._outbox.pump()
        events: list[Event] = []
        taken: list[tuple[Backlog, list[Interval]]] = []
        held = set(self._holders.values())
        for binding, backlog in list(self._backlogs.items()):
            if not len(backlog) and binding not in held:
                del self._backlogs[binding]  # its last GPU has gone, and all is kept
                continue
            # Heartbeats that nobody hears would only fill the disk.
            if not len(backlog) and not self._outbox.waiting:
                events.append(self._event(binding, []))
            while rows := backlog.take(MAX_BATCH_ROWS):
                taken.append((backlog, rows))
                events.append(self._event(binding, rows))
        if self._keep(events, "what was measured"):
            self._count(events)
        else:
            for event in reversed(events):
                self._numbers.take_back(event)
            for backlog, rows in reversed(taken):
                backlog.put_back(rows)
        self._outbox.pump()
        self._export()

    def close(self, timeout_s: float = 30.0) -> None:
        """Sends what it can within `timeout_s`; the rest waits on disk for the next run. Raises Unavailable naming the
        joules that could not be kept."""
        deadline = self._clock.monotonic_ms() + timeout_s * 1000
        self.publish()
        while (self._outbox.waiting or self.unsent_rows) and self._clock.monotonic_ms() < deadline:
            self._outbox.pump(0.1)
            if self.unsent_rows:
                self.publish()
        where = f"{self._node.cluster}/{self._node.node}"
        if self._outbox.waiting:
            log.warning("%s: %d events wait on disk; the next run sends them", where, self._outbox.waiting)
        if self.unsent_rows:
            lost_uj = sum(backlog.energy_uj for backlog in self._backlogs.values())
            raise Unavailable(
                f"{lost_uj / UJ_PER_J:.3f} J of {where} could be neither sent nor kept on disk",
                "Free space on the spool's disk. What GPUs with an energy counter used, the next run takes from it.",
            )

    @property
    def unsent_rows(self) -> int:
        """Intervals in memory only."""
        return sum(len(backlog) for backlog in self._backlogs.values())

    def _resume(self, marks: Mapping[str, bytes]) -> None:
        """Go on where an earlier run stood, if the machine has not been started anew since."""
        for name, value in marks.items():
            mark = msgspec.msgpack.decode(value, type=Mark)
            if not name.startswith(MARK) or not mark.boot or mark.boot != self._node.boot:
                continue
            uuid = name.removeprefix(MARK)
            self._states[uuid] = replace(mark.state, busy=None)  # Nobody saw how busy it was meanwhile.
            self._holders[uuid] = mark.holder

    def _keep(self, events: Sequence[Event], what: str) -> bool:
        """Events and all marks onto the disk; False where it takes no more."""
        try:
            self._outbox.offer(events, self._marks())
        except Unavailable as error:
            self.metrics.spool_errors.inc()
            log.error("%s is in memory only: %s", what, error)
            return False
        return True

    def _marks(self) -> dict[str, bytes]:
        return {
            MARK + uuid: msgspec.msgpack.encode(Mark(self._node.boot, self._holders[uuid], state))
            for uuid, state in self._states.items()
        }

    def _take(self, reading: Reading, holder: Binding) -> None:
        took = step(self._states.get(reading.gpu_uuid), reading, max_gap_ms=self._max_gap_ms)
        self._states[reading.gpu_uuid] = took.state
        held_by = self._holders.setdefault(reading.gpu_uuid, holder)
        self.metrics.resets.inc(took.resets)
        self.metrics.gaps.inc(took.gaps)
        self.metrics.clock_steps.inc(took.clock_steps)
        self._backlog(holder)  # a holder without rows yet sends heartbeats
        if took.intervals:
            self._backlog(held_by).add(took.intervals)
            self._holders[reading.gpu_uuid] = holder

    def _backlog(self, binding: Binding) -> Backlog:
        found = self._backlogs.get(binding)
        if found is None:
            found = self._backlogs[binding] = Backlog(self._node.max_rows)
        return found

    def _event(self, binding: Binding, rows: Sequence[Interval]) -> Event:
        node = self._node
        columns = (
            (r.gpu_uuid, r.hardware, r.t0_ms, r.t1_ms, r.energy_uj, r.method, r.busy_ms) for r in rows
        )  # fmt: skip
        batch = power_batch(node.node, columns, owner=binding.owner, t_ms=0 if rows else self._clock.wall_ms())
        source = source_of(node.kind, node.cluster, node.node, binding.workload)
        return event_of(self._numbers, source, node.cluster, binding.workload, batch)

    def _count(self, events: Sequence[Event]) -> None:
        batches = [event.batch for event in events if isinstance(event.batch, PowerBatch)]
        self.metrics.events.inc(len(events))
        self.metrics.rows.inc(sum(len(batch) for batch in batches))
        self.metrics.joules.inc(sum(int(batch.energy_uj.sum()) for batch in batches) / UJ_PER_J)

    def _export(self) -> None:
        self.metrics.backlog_rows.set(self.unsent_rows)
        self.metrics.spooled.set(self._outbox.waiting)
        self.metrics.send_errors.inc(self._outbox.failures - self._failures)
        self._failures = self._outbox.failures
