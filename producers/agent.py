"""The agent of a node: samples its GPUs, turns readings into intervals, sends them by workload. Time is injected.

It never drops a joule while it runs. Events wait in two bounded places: a few in flight at the client, and the rest as
intervals in the backlog, which grow coarser while the broker is away. An event that the broker refused is sent again
as it was, with its own number, so that it can neither be lost nor counted twice. What is still unsent when the
agent is stopped is named, in joules, by the error that it ends with.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from contracts import topics
from contracts.errors import Unavailable
from contracts.events import Event, PowerBatch
from contracts.units import UJ_PER_J
from producers.backlog import Backlog
from producers.clock import Clock
from producers.meter import MAX_GAP_MS, Interval, Reading, State, step
from producers.numbering import Sequencer, event_of, power_batch, source_of
from producers.publish import OnFailed

log = logging.getLogger(__name__)

MAX_BATCH_ROWS = 4_096


class Sensor(Protocol):
    """Hardware. One reading of each GPU that is there."""

    def readings(self, clock: Clock) -> Sequence[Reading]: ...


class Sink(Protocol):
    """Where events go: `producers.publish.Publisher`."""

    def send(self, event: Event, *, on_failed: OnFailed | None = None) -> object: ...
    def pending(self) -> int: ...
    def poll(self, timeout_s: float = 0.0) -> None: ...
    def close(self, timeout_s: float = 30.0) -> None: ...


@dataclass(slots=True, frozen=True)
class Binding:
    """Which workload holds a GPU, and which tenant pays when that is idle ("": nobody)."""

    workload: str
    owner: str = ""


@dataclass(slots=True, frozen=True)
class Node:
    """What an agent is told. `max_rows` bounds each workload's backlog, `max_in_flight` the messages at the client."""

    cluster: str
    node: str
    sample_ms: int = 1_000
    publish_ms: int = 5_000
    kind: str = "nvml"
    max_rows: int = 20_000
    max_in_flight: int = 64


class Metrics:
    """The agent's own Prometheus metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str) -> Counter:
            return Counter(f"wattlog_producer_{name}", text, registry=registry)

        self.rows = count("rows", "Intervals sent")
        self.events = count("events", "Events sent, heartbeats too")
        self.joules = count("joules", "Energy of the intervals sent")
        self.resets = count("counter_resets", "Energy counters that went back or leapt: a new epoch")
        self.gaps = count("gaps", "Stretches in which nothing measured a GPU")
        self.clock_steps = count("clock_steps", "Times that the wall clock was set back by more than a minute")
        self.send_errors = count("send_errors", "Events refused or not acknowledged; they are sent again")
        self.sample_errors = count("sample_errors", "Samples in which the sensor failed as a whole")
        self.backlog_rows = Gauge("wattlog_producer_backlog_rows", "Intervals not sent yet", registry=registry)
        self.sample_seconds = Histogram(
            "wattlog_producer_sample_seconds", "Time to read all GPUs once", registry=registry
        )


class Agent:
    """One node's loop. `bindings` maps a GPU's UUID to its holder; a GPU that is not in it is unallocated."""

    def __init__(
        self,
        node: Node,
        sensor: Sensor,
        sink: Sink,
        clock: Clock,
        bindings: Callable[[], Mapping[str, Binding]],
        metrics: Metrics | None = None,
    ) -> None:
        topics.check_name("cluster", node.cluster)
        topics.check_name("node", node.node)
        self._node, self._sensor, self._sink, self._clock = node, sensor, sink, clock
        self._bindings = bindings
        self.metrics = metrics or Metrics(CollectorRegistry())
        self._numbers = Sequencer(clock.wall_ms())
        self._unallocated = Binding(topics.node_workload(node.node))
        self._max_gap_ms = max(MAX_GAP_MS, 3 * node.sample_ms)
        self._states: dict[str, State] = {}
        self._holders: dict[str, Binding] = {}
        self._backlogs: dict[Binding, Backlog] = {}
        self._refused: deque[Event] = deque()

    def run(self) -> None:
        """Samples and publishes until the clock says stop, then sends what is left. Raises Unavailable if it cannot."""
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
        for reading in readings:
            self._take(reading, bindings.get(reading.gpu_uuid, self._unallocated))
        self.metrics.sample_seconds.observe((self._clock.monotonic_ms() - begun) / 1000)
        self.metrics.backlog_rows.set(self.unsent_rows)

    def publish(self) -> None:
        """One event a workload: its rows, or a heartbeat. Leaves everything where it is while the sink is full."""
        self._sink.poll()
        try:
            while self._refused and self._sink.pending() < self._node.max_in_flight:
                self._sink.send(self._refused[0], on_failed=self._failed)
                self._refused.popleft()
            for binding, backlog in list(self._backlogs.items()):
                self._publish(binding, backlog)
        except Unavailable as error:
            self.metrics.send_errors.inc()
            log.error("not sent now, kept: %s", error)
        self.metrics.backlog_rows.set(self.unsent_rows)

    def close(self, timeout_s: float = 30.0) -> None:
        """Sends what is left. Raises Unavailable naming the joules that could not be sent within `timeout_s`."""
        deadline = self._clock.monotonic_ms() + timeout_s * 1000
        while True:
            self.publish()
            if not (self._refused or self.unsent_rows) or self._clock.monotonic_ms() >= deadline:
                break
            self._sink.poll(0.1)
        left_s = max(1.0, (deadline - self._clock.monotonic_ms()) / 1000)
        self._sink.close(left_s)
        if self._refused or self.unsent_rows:
            lost_uj = sum(backlog.energy_uj for backlog in self._backlogs.values())
            batches = (event.batch for event in self._refused)
            lost_uj += sum(int(b.energy_uj.sum()) for b in batches if isinstance(b, PowerBatch))
            where = f"{self._node.cluster}/{self._node.node}"
            raise Unavailable(
                f"{lost_uj / UJ_PER_J:.3f} J of {where} could not be sent before the end",
                "The brokers were away while this agent stopped; its energy counters have moved on.",
            )

    @property
    def unsent_rows(self) -> int:
        return sum(len(backlog) for backlog in self._backlogs.values())

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

    def _publish(self, binding: Binding, backlog: Backlog) -> None:
        now_ms = self._clock.wall_ms()
        while self._has_room():
            rows = backlog.take(MAX_BATCH_ROWS)
            if not rows and binding not in self._holders.values():
                del self._backlogs[binding]  # its last GPU has gone, and all is sent
                return
            self._send(binding, rows, now_ms, backlog)
            if not len(backlog):
                return

    def _send(self, binding: Binding, rows: list[Interval], now_ms: int, backlog: Backlog) -> None:
        node = self._node
        columns = (
            (r.gpu_uuid, r.hardware, r.t0_ms, r.t1_ms, r.energy_uj, r.method, r.busy_ms) for r in rows
        )  # fmt: skip
        batch = power_batch(node.node, columns, owner=binding.owner, t_ms=0 if rows else now_ms)
        source = source_of(node.kind, node.cluster, node.node, binding.workload)
        event = event_of(self._numbers, source, node.cluster, binding.workload, batch)
        try:
            self._sink.send(event, on_failed=self._failed)
        except Exception:
            self._numbers.take_back(event)
            backlog.put_back(rows)
            raise
        self.metrics.events.inc()
        self.metrics.rows.inc(len(rows))
        self.metrics.joules.inc(sum(r.energy_uj for r in rows) / UJ_PER_J)

    def _has_room(self) -> bool:
        return self._sink.pending() + len(self._refused) < self._node.max_in_flight

    def _failed(self, event: Event, reason: str) -> None:
        self.metrics.send_errors.inc()
        log.error("%s %d.%d was not stored and is sent again: %s", event.source, event.epoch, event.seq, reason)
        self._refused.append(event)
