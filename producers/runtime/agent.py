"""The agent of a node: samples its GPUs, turns readings into intervals, keeps them for the broker. Time is injected.

It never drops a joule. What it has measured is kept on disk (`producers.runtime.spool`) together with each GPU's
mark: where its counter stood when that was measured. The next run sends what was not acknowledged and goes on from
the marks, so what a GPU used while no agent ran is in its first interval. Where the disk takes no more, intervals
stay in memory and grow coarser, and the marks stay behind with them.

A GPU that several workloads share is one GPU until its intervals are sent: only then are they split among its holders
(`producers.bindings.apportion`), so that what waits in memory can still grow coarser.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from prometheus_client import CollectorRegistry

from contracts import checks, topics
from contracts.errors import Unavailable
from contracts.events import Event, PowerBatch
from contracts.units import UJ_PER_J
from producers.api import ReportsRefusals
from producers.bindings import holder_record
from producers.bindings.apportion import Binding, BindingShare, GpuShares, binding_weights, split_intervals
from producers.gpu.intervals import MAX_GAP_MS, EnergyInterval, GpuReading, MeterState, add_reading
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.backlog import Backlog
from producers.runtime.clock import Clock
from producers.runtime.delivery import Outbox
from producers.runtime.event_sequence import Sequencer, event_of, power_batch, source_of
from producers.runtime.refusals import refusal

log = logging.getLogger(__name__)

MAX_BATCH_ROWS = 4_096
MAX_CHECKED = 1_024
"""GPUs whose names are remembered as checked."""
MARK = "gpu/"
"""Before a GPU's UUID: the name of its mark."""


class Sensor(Protocol):
    """Hardware. One reading of each GPU that is there."""

    def readings(self, clock: Clock) -> Sequence[GpuReading]: ...


@dataclass(slots=True, frozen=True)
class Mark:
    """Checkpoint of one GPU. `boot` says in which run of the machine: counters and the monotonic clock begin
    anew with each. `shares` says who holds the GPU where `holder` does not do so alone or more is known of it; `told`
    is the span that is not on record yet (`producers.bindings.holder_record`)."""

    boot: str
    holder: Binding
    state: MeterState
    shares: GpuShares = ()
    told: tuple[int, int] = (0, 0)

    @property
    def holding(self) -> GpuShares:
        return self.shares or (BindingShare(self.holder),)


@dataclass(slots=True, frozen=True)
class Node:
    """Options of an agent. `max_rows` bounds each workload's backlog. `boot` names this run of the machine; "" if
    that is not known: then marks of an earlier agent are of no use. `held_ms` is how often it goes on record who holds
    which GPU; 0: never."""

    cluster: str
    node: str
    sample_ms: int = 1_000
    publish_ms: int = 5_000
    kind: str = "nvml"
    max_rows: int = 20_000
    boot: str = ""
    held_ms: int = 0


class Agent:
    """One node's loop. `bindings` maps a GPU's UUID to its holder or holders; a GPU that is not in it is unallocated.
    `marks` are those that an earlier run left."""

    def __init__(
        self,
        node: Node,
        sensor: Sensor,
        outbox: Outbox,
        clock: Clock,
        bindings: Callable[[], Mapping[str, Binding | GpuShares]],
        metrics: AgentMetrics | None = None,
        marks: Mapping[str, bytes] | None = None,
    ) -> None:
        topics.check_name("cluster", node.cluster)
        topics.check_name("node", node.node)
        self._node, self._sensor, self._outbox, self._clock = node, sensor, outbox, clock
        self._bindings = bindings
        self.metrics = metrics or AgentMetrics(CollectorRegistry())
        self._numbers = Sequencer(clock.wall_ms())
        self._unallocated = (BindingShare(Binding(topics.node_workload(node.node))),)
        self._max_gap_ms = max(MAX_GAP_MS, 3 * node.sample_ms)
        self._states: dict[str, MeterState] = {}
        self._holders: dict[str, GpuShares] = {}
        self._backlogs: dict[GpuShares, Backlog] = {}
        self._held = holder_record.HolderRecord(node.held_ms)
        self._failures = self._held_lost = 0
        self._checked: set[tuple[str, str]] = set()
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
        except Exception as error:  # Of any class: the next sample's counter bridges the time.
            self.metrics.sample_errors.inc()
            self.metrics.refusals.add(self._node.kind, [refusal(error, "no reading")], begun)
            return
        if isinstance(self._sensor, ReportsRefusals):
            self.metrics.refusals.add(self._node.kind, self._sensor.drain_refused(), begun)
        known = set(self._states)
        for reading in readings:
            try:
                self._check_names(reading)
                holder = bindings.get(reading.gpu_uuid, self._unallocated)
                self._take(reading, (BindingShare(holder),) if isinstance(holder, Binding) else holder)
            except Exception as error:  # The other GPUs are measured all the same.
                self.metrics.refusals.add(self._node.kind, [refusal(error, "a reading", str(reading))], begun)
        if new := [uuid for uuid in self._states if uuid not in known]:
            # Theirs alone: the other marks may not overtake what is in memory yet.
            self._keep([], self._marks(new), "where GPUs stood at first")
        self.metrics.sample_seconds.observe((self._clock.monotonic_ms() - begun) / 1000)
        self.metrics.backlog_rows.set(self.unsent_rows)

    def publish(self, *, end: bool = False) -> None:
        """Keeps one event a workload, its rows or a heartbeat, and has the outbox send what it can. At the `end` all
        goes on record that is known of who held what."""
        self._outbox.pump()
        taken: list[tuple[Backlog, list[EnergyInterval]]] = []
        rows: dict[Binding, list[EnergyInterval]] = {}
        in_use = set(self._holders.values())
        for holding, backlog in list(self._backlogs.items()):
            if not len(backlog) and holding not in in_use:
                del self._backlogs[holding]  # its last GPU has gone, and all is kept
                continue
            whole = backlog.take(len(backlog))
            taken.append((backlog, whole))
            for binding in binding_weights(holding):
                rows.setdefault(binding, [])
            for binding, part in split_intervals(whole, holding):
                rows[binding].append(part)
        runs = self._held.due(self._holders, end=end) if self._node.held_ms else []
        events = [*self._power_events(rows), *self._held_events(runs)]
        if self._keep(events, self._marks(self._states, runs), "what was measured"):
            self._held.discard(runs)
            self._count(events)
        else:
            for event in reversed(events):
                self._numbers.take_back(event)
            for backlog, whole in reversed(taken):
                backlog.put_back(whole)
        self._outbox.pump()
        self._export()

    def close(self, timeout_s: float = 30.0) -> None:
        """Sends what it can within `timeout_s`; the rest waits on disk for the next run. Raises Unavailable naming the
        joules that could not be kept."""
        deadline = self._clock.monotonic_ms() + timeout_s * 1000
        self.publish(end=True)
        while (self._outbox.waiting or self.unsent_rows) and self._clock.monotonic_ms() < deadline:
            self._outbox.pump(0.1)
            if self.unsent_rows:
                self.publish(end=True)
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
            if not name.startswith(MARK):
                continue
            uuid = name.removeprefix(MARK)
            if mark.told[1]:
                self._held.resume(holder_record.HolderSpan(uuid, *mark.told, mark.holding))
            if mark.boot and mark.boot == self._node.boot:
                self._states[uuid] = msgspec.structs.replace(mark.state, busy=None)  # utilisation is unknown
                self._holders[uuid] = mark.holding

    def _keep(self, events: Sequence[Event], marks: Mapping[str, bytes], what: str) -> bool:
        """Events and marks onto the disk; False where it takes no more."""
        try:
            self._outbox.offer(events, marks)
        except Unavailable as error:
            self.metrics.spool_errors.inc()
            log.error("%s is in memory only: %s", what, error)
            return False
        return True

    def _marks(self, uuids: Iterable[str], told: Sequence[holder_record.HolderSpan] = ()) -> dict[str, bytes]:
        """Of these GPUs, as they stand once the runs that are `told` are kept."""
        return {MARK + uuid: msgspec.msgpack.encode(self._mark(uuid, told)) for uuid in uuids}

    def _mark(self, uuid: str, told: Sequence[holder_record.HolderSpan]) -> Mark:
        holding = self._holders[uuid]
        alone = holding == (BindingShare(holding[0].binding),)
        shares = () if alone else holding
        return Mark(self._node.boot, holding[0].binding, self._states[uuid], shares, self._held.open_span(uuid, told))

    def _take(self, reading: GpuReading, holding: GpuShares) -> None:
        took = add_reading(self._states.get(reading.gpu_uuid), reading, max_gap_ms=self._max_gap_ms)
        self._states[reading.gpu_uuid] = took.state
        held_by = self._holders.setdefault(reading.gpu_uuid, holding)
        self.metrics.resets.inc(took.resets)
        self.metrics.gaps.inc(took.gaps)
        self.metrics.clock_steps.inc(took.clock_steps)
        self._backlog(holding)  # a holder without rows yet sends heartbeats
        if took.intervals:
            self._backlog(held_by).add(took.intervals)
            if self._node.held_ms:
                self._held.add(took.intervals, held_by)
            self._holders[reading.gpu_uuid] = holding

    def _check_names(self, reading: GpuReading) -> None:
        """Raise BadInput for a GPU whose names the log does not take: its intervals could never be sent."""
        names = (reading.gpu_uuid, reading.hardware)
        if names not in self._checked:
            checks.text("gpu_uuid", (reading.gpu_uuid,), empty=False)
            checks.text("hardware", (reading.hardware,), empty=False)
            if len(self._checked) < MAX_CHECKED:
                self._checked.add(names)

    def _backlog(self, holding: GpuShares) -> Backlog:
        found = self._backlogs.get(holding)
        if found is None:
            found = self._backlogs[holding] = Backlog(self._node.max_rows)
        return found

    def _power_events(self, rows: Mapping[Binding, Sequence[EnergyInterval]]) -> Iterator[Event]:
        for binding, parts in rows.items():
            # Heartbeats that nobody hears would only fill the disk.
            if not parts and not self._outbox.waiting:
                yield self._event(binding, [])
            for first in range(0, len(parts), MAX_BATCH_ROWS):
                yield self._event(binding, parts[first : first + MAX_BATCH_ROWS])

    def _held_events(self, runs: Sequence[holder_record.HolderSpan]) -> Iterator[Event]:
        """Yield the records of who held what, under a source of their own: it writes to another topic."""
        node, kind = self._node, f"{self._node.kind}-held"
        for workload, batch in holder_record.batches(runs, node.node, source_of(kind, node.cluster, node.node, "")):
            source = source_of(kind, node.cluster, node.node, workload)
            yield event_of(self._numbers, source, node.cluster, workload, batch)

    def _event(self, binding: Binding, rows: Sequence[EnergyInterval]) -> Event:
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
        self.metrics.held_lost.inc(self._held.lost - self._held_lost)
        self._held_lost = self._held.lost
