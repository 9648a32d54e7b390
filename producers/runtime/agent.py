"""Agent of a node: samples its GPUs, turns readings into intervals, and keeps these for the broker.

The agent never drops a joule. It stores what it measured in the spool (`producers.runtime.spool`), in one transaction
with a checkpoint of each GPU: the counter up to which those intervals account for. The next run sends the intervals
that the broker has not acknowledged and continues from the checkpoints. So its first interval contains what a GPU used
while no agent ran. When the disk takes no more, intervals stay in memory and grow coarser, and the checkpoints on disk
do not advance.

A GPU that appears while the agent runs is metered and bound like the others. One that leaves is named in the log, and
what is known of its last interval is sent. When it returns it begins anew (`producers.gpu.roster`).

Intervals of a shared GPU are split among its holders (`producers.bindings.apportion`) only when they are sent.
Until then they are those of one GPU and can still be merged.

The clock is injected: tests decide the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from prometheus_client import CollectorRegistry

from contracts import checks, topics
from contracts.errors import Unavailable
from contracts.events import Event, PowerBatch
from contracts.units import UJ_PER_J
from producers.api import GpuSensor, ReportsRefusals
from producers.bindings import holder_record
from producers.bindings.apportion import Binding, BindingShare, GpuShares, binding_weights, split_intervals
from producers.boundary.node_energy import NodeEnergy
from producers.gpu.meter import MAX_GAP_MS, PERIODS_PER_GAP, IntervalResult, add_reading, send_open
from producers.gpu.meter_state import MeterState
from producers.gpu.plausibility import implausible_value
from producers.gpu.readings import EnergyInterval, GpuReading
from producers.gpu.roster import GpuRoster, RosterChange
from producers.gpu.watts_record import WattsRecord, WattsSpan
from producers.runtime.agent_checkpoint import CHECKPOINT_PREFIX, AgentCheckpoint
from producers.runtime.agent_events import AgentEvents
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.backlog import Backlog
from producers.runtime.clock import Clock
from producers.runtime.delivery import encode_message
from producers.runtime.event_sequence import Sequencer
from producers.runtime.outbox import Outbox
from producers.runtime.rare_log import RareLog
from producers.runtime.refusals import read_each, refusal

log = logging.getLogger(__name__)

MAX_CHECKED = 1_024
"""Maximum number of GPUs whose names are remembered as valid."""


@dataclass(slots=True, frozen=True)
class AgentConfig:
    """Options of an agent.

    `max_rows` bounds the backlog in memory of each workload. `boot` identifies the boot of the machine; where it is not
    known (""), checkpoints of an earlier agent are not used. `held_ms` is the interval at which the holders of GPUs are
    recorded, `watts_ms` that at which energy by watts is; 0 disables either record.
    """

    cluster: str
    node: str
    sample_ms: int = 1_000
    publish_ms: int = 5_000
    kind: str = "nvml"
    max_rows: int = 20_000
    boot: str = ""
    held_ms: int = 0
    watts_ms: int = 0


class Agent:
    """Loop that measures one node.

    `bindings` returns the holder or the holders of each GPU by UUID; a GPU that is not in it is unallocated.
    `checkpoints` are those that an earlier run stored. `roster` lists the GPUs for others, such as `bindings`.
    `node_energy` is what the node uses beside its GPUs, None where it is not read.
    """

    def __init__(
        self,
        config: AgentConfig,
        sensor: GpuSensor,
        outbox: Outbox,
        clock: Clock,
        bindings: Callable[[], Mapping[str, Binding | GpuShares]],
        metrics: AgentMetrics | None = None,
        checkpoints: Mapping[str, bytes] | None = None,
        roster: GpuRoster | None = None,
        node_energy: NodeEnergy | None = None,
    ) -> None:
        topics.check_name("cluster", config.cluster)
        topics.check_name("node", config.node)
        self._config, self._sensor, self._outbox, self._clock = config, sensor, outbox, clock
        self._storage_log = RareLog(log)
        self._bindings, self._roster = bindings, roster or GpuRoster()
        self.metrics = metrics or AgentMetrics(CollectorRegistry())
        self._events = AgentEvents(config.cluster, config.node, config.kind, clock, Sequencer(clock.wall_ms()))
        self._node_energy = node_energy
        self._unallocated = (BindingShare(Binding(topics.node_workload(config.node))),)
        self._max_gap_ms = max(MAX_GAP_MS, 3 * config.sample_ms)
        self._states: dict[str, MeterState] = {}
        self._last_readings: dict[str, GpuReading] = {}
        self._shares: dict[str, GpuShares] = {}
        """By GPU: the shares at its last completed interval."""
        self._unbound: set[str] = set()
        """GPUs that had no holder at their first reading, and have no interval yet."""
        self._left: dict[str, AgentCheckpoint] = {}
        """Checkpoints of GPUs that left, until they are stored: the next run does not continue from them."""
        self._backlogs: dict[GpuShares, Backlog] = {}
        self._holder_record = holder_record.HolderRecord(config.held_ms)
        self._watts_record = WattsRecord(config.watts_ms)
        self._failures = self._lost_spans = 0
        self._has_sampled = False
        self._checked: set[tuple[str, str]] = set()
        self._resume(checkpoints or {})
        self._roster.add(self._states)

    def run(self) -> None:
        """Sample and publish until the clock says stop, then send what the broker takes.

        Raises Unavailable for energy that could be neither sent nor stored.
        """
        config, clock = self._config, self._clock
        next_sample = next_publish = clock.monotonic_ms()
        next_publish += config.publish_ms
        try:
            while True:
                self.sample()
                now = clock.monotonic_ms()
                if now >= next_publish:
                    self.publish()
                    next_publish = now + config.publish_ms - (now - next_publish) % config.publish_ms
                # Missed samples are skipped: the energy counter covers their time.
                next_sample += config.sample_ms * ((now - next_sample) // config.sample_ms + 1)
                if clock.wait((next_sample - clock.monotonic_ms()) / 1000):
                    break
            self.sample()  # measures the time up to the stop
            for uuid in self._last_readings:
                self._send_open(uuid)
            self._split_node_energy(end=True)
        finally:
            self.close()

    def sample(self) -> None:
        """Read every GPU once and add its completed intervals to the workload that held it when they began."""
        begun = self._clock.monotonic_ms()
        if self._node_energy and self._states:  # Before the GPUs, so that their intervals reach the node's reading.
            self._node_energy.read(self._clock)
        try:
            readings = list(self._sensor.readings(self._clock))
            refused = list(self._sensor.drain_refused()) if isinstance(self._sensor, ReportsRefusals) else []
        except Exception as error:  # Of any class: the counter of the next sample covers the time.
            self.metrics.sample_errors.inc()
            self.metrics.refusals.add(self._config.kind, [refusal(error, "no reading")], begun, outcome="tried again")
            log.debug("%s", self._config.kind, exc_info=error)
            return
        known = set(self._states)
        placed = [("a reading", reading) for reading in readings]
        readings = list(read_each(placed, self._check_names, refused, show=True))
        self._show_change(self._roster.note(readings, begun), readings)
        bindings = self._bindings()  # After the roster, so that they may contain a new GPU.

        def add(reading: GpuReading) -> GpuReading:
            binding = bindings.get(reading.gpu_uuid, self._unallocated)
            if reading.gpu_uuid not in bindings and reading.gpu_uuid not in self._states:
                self._unbound.add(reading.gpu_uuid)
            self._add(reading, (BindingShare(binding),) if isinstance(binding, Binding) else binding)
            return reading

        for reading in read_each((("a reading", reading) for reading in readings), add, refused, show=True):
            if value := implausible_value(reading, self._states[reading.gpu_uuid].peak_mw):
                refused.append(f"{reading.gpu_uuid}: {value} is implausible, and taken as unknown")
        self.metrics.refusals.add(self._config.kind, refused, begun)
        if new := [uuid for uuid in self._states if uuid not in known]:
            # Only the new GPUs: the other checkpoints must not advance past intervals that are still in memory.
            self._store([], self._encode_checkpoints(new), "the first checkpoint of new GPUs")
        self._split_node_energy()
        self.metrics.sample_seconds.observe((self._clock.monotonic_ms() - begun) / 1000)
        self.metrics.backlog_rows.set(self.unsent_rows)

    def _show_change(self, change: RosterChange, readings: Sequence[GpuReading]) -> None:
        """Name the GPUs that appeared or left since the last sample, and end the meters of those that left."""
        hardware = {reading.gpu_uuid: reading.hardware for reading in readings}
        if self._has_sampled:  # The GPUs of the first sample were there.
            self.metrics.gpus_appeared.inc(len(change.appeared))
            for uuid in change.appeared:
                log.warning("%s (%s) appeared: it is metered from now on", uuid, hardware[uuid])
        self._has_sampled = True
        self.metrics.gpus_left.inc(len(change.left))
        for uuid in change.left:
            log.warning("%s left: nothing has read it for some time; if it returns, it begins anew", uuid)
            self._end_meter(uuid)

    def _end_meter(self, uuid: str) -> None:
        """Add what is known of a GPU's last interval, and forget its meter."""
        if uuid not in self._states:
            return
        if uuid in self._last_readings:
            self._send_open(uuid)
            del self._last_readings[uuid]
        state, shares = self._states.pop(uuid), self._shares.pop(uuid)
        self._left[uuid] = AgentCheckpoint("", shares[0].binding, state)

    def _send_open(self, uuid: str) -> None:
        """Add the watts of a GPU whose counter has stood or been silent for long: no reading follows in this run."""
        result = send_open(self._states[uuid], self._last_readings[uuid], max_gap_ms=self._max_gap_ms)
        self._add_result(uuid, result, self._shares[uuid])

    def publish(self, *, end: bool = False) -> None:
        """Store events with the rows of each workload, or its heartbeat, and let the outbox send what it can.

        At the `end`, all that is known of the holders of GPUs is recorded too.
        """
        self._outbox.pump()
        self._outbox.heed_claims(self._events.numbers, self._clock.wall_ms())
        drained: list[tuple[Backlog, list[EnergyInterval]]] = []
        rows: dict[Binding, list[EnergyInterval]] = {}
        in_use = set(self._shares.values())
        for shares, backlog in list(self._backlogs.items()):
            if not len(backlog) and shares not in in_use:
                del self._backlogs[shares]  # No GPU has these shares any more, and all their intervals are stored.
                continue
            intervals = backlog.take(len(backlog))
            drained.append((backlog, intervals))
            for binding in binding_weights(shares):
                rows.setdefault(binding, [])
            for binding, part in split_intervals(intervals, shares):
                rows[binding].append(part)
        spans = self._holder_record.due(self._shares, end=end) if self._config.held_ms else []
        watts = self._watts_record.due(self._shares, end=end) if self._config.watts_ms else []
        # While the broker is away, heartbeats would only fill the disk.
        power = list(self._events.power(rows, heartbeats=not self._outbox.waiting))
        records = [*self._events.holders(spans), *self._events.watts(watts)]
        left = {CHECKPOINT_PREFIX + uuid: msgspec.msgpack.encode(end) for uuid, end in self._left.items()}
        node = self._node_energy.checkpoint() if self._node_energy else {}
        content = "the record of holders and watts" if records else "what was measured"
        recorded = left | node | self._encode_checkpoints(self._states, spans, watts)
        if stored := self._store([*power, *records], recorded, content):
            self._holder_record.discard(spans)
            self._watts_record.discard(watts)
        else:
            self._events.take_back(records)
            # Energy does not wait for a record whose topic is refused: that stays in memory, within its own bound.
            unrecorded = left | node | self._encode_checkpoints(self._states)
            stored = bool(records) and self._store(power, unrecorded, "what was measured")
            records = []
        if stored:
            self._left.clear()
            self._count([*power, *records])
        else:
            self._events.take_back(power)
            for backlog, intervals in reversed(drained):
                backlog.put_back(intervals)
        self._outbox.pump()
        self._export()

    def close(self, timeout_s: float = 30.0) -> None:
        """Send what the broker takes within `timeout_s`; what remains waits on disk for the next run.

        Raises Unavailable naming the joules that could be neither sent nor stored.
        """
        deadline = self._clock.monotonic_ms() + timeout_s * 1000
        self.publish(end=True)
        while (self._outbox.waiting or self.unsent_rows) and self._clock.monotonic_ms() < deadline:
            self._outbox.pump(0.1)
            if self.unsent_rows:
                self.publish(end=True)
        place = f"{self._config.cluster}/{self._config.node}"
        if self._outbox.waiting:
            log.warning("%s: %d events wait on disk; the next run sends them", place, self._outbox.waiting)
        if self.unsent_rows:
            lost_uj = sum(backlog.energy_uj for backlog in self._backlogs.values())
            raise Unavailable(
                f"{lost_uj / UJ_PER_J:.3f} J of {place} could be neither sent nor kept on disk",
                "Free space on the spool's disk. What GPUs with an energy counter used, the next run takes from it.",
            )

    @property
    def unsent_rows(self) -> int:
        """Number of intervals that are in memory only."""
        return sum(len(backlog) for backlog in self._backlogs.values())

    def _resume(self, checkpoints: Mapping[str, bytes]) -> None:
        """Continue from the checkpoints of an earlier run.

        Meters continue only within the same boot of the machine. Spans that are not recorded yet continue in any case.
        """
        for name, encoded in checkpoints.items():
            if not name.startswith(CHECKPOINT_PREFIX):
                continue
            checkpoint = msgspec.msgpack.decode(encoded, type=AgentCheckpoint)
            uuid = name.removeprefix(CHECKPOINT_PREFIX)
            shares = checkpoint.current_shares
            if checkpoint.unrecorded_ms[1]:
                self._holder_record.resume(holder_record.HolderSpan(uuid, *checkpoint.unrecorded_ms, shares))
            if checkpoint.boot and checkpoint.boot == self._config.boot:
                self._states[uuid] = msgspec.structs.replace(checkpoint.state, busy=None)  # utilisation is unknown
                self._shares[uuid] = shares
            if checkpoint.watts:
                self._watts_record.resume(checkpoint.watts)
            self._unbound.discard(uuid)

    def _store(self, events: Sequence[Event], checkpoints: Mapping[str, bytes], content: str) -> bool:
        """Store events and checkpoints together; `content` names them in the log.

        Return False where the disk takes no more. Then neither is stored, and the intervals stay in memory.
        """
        try:
            self._outbox.offer([encode_message(event) for event in events], checkpoints)
        except Unavailable as error:
            self.metrics.spool_errors.inc()
            self._storage_log.write(logging.ERROR, f"{content} is in memory only: {error}")
            return False
        return True

    def _encode_checkpoints(
        self, uuids: Iterable[str], held: Sequence[holder_record.HolderSpan] = (), watts: Sequence[WattsSpan] = ()
    ) -> dict[str, bytes]:
        """Return the encoded checkpoints of these GPUs, by name, as they are once these spans are stored."""
        checkpoints = {uuid: self._checkpoint(uuid, held, watts) for uuid in uuids}
        return {
            CHECKPOINT_PREFIX + uuid: msgspec.msgpack.encode(checkpoint) for uuid, checkpoint in checkpoints.items()
        }

    def _checkpoint(
        self, uuid: str, held: Sequence[holder_record.HolderSpan], watts: Sequence[WattsSpan]
    ) -> AgentCheckpoint:
        shares = self._shares[uuid]
        holder, unrecorded_ms = shares[0].binding, self._holder_record.open_span(uuid, held)
        if shares == (BindingShare(holder),):
            shares = ()
        unrecorded = self._watts_record.unrecorded(uuid, watts)
        return AgentCheckpoint(self._config.boot, holder, self._states[uuid], shares, unrecorded_ms, unrecorded)

    def _add(self, reading: GpuReading, shares: GpuShares) -> None:
        """Add a reading of a GPU that now has these shares; completed intervals go to the shares it had before."""
        result = add_reading(self._states.get(reading.gpu_uuid), reading, max_gap_ms=self._max_gap_ms)
        self._last_readings[reading.gpu_uuid] = reading
        self._add_result(reading.gpu_uuid, result, shares)

    def _add_result(self, uuid: str, result: IntervalResult, shares: GpuShares) -> None:
        before, self._states[uuid] = self._states.get(uuid), result.state
        previous = self._shares.setdefault(uuid, shares)
        if uuid in self._unbound:  # Whoever is known to hold it at the end of its first interval held it before.
            previous = shares
        self.metrics.resets.inc(result.resets)
        self.metrics.dips.inc(result.dips)
        self.metrics.differences.inc(result.differences)
        if result.differences and not (before and before.comparison.differs):  # Once, until they agree again.
            log.warning("%s: its counter and its watts differ by more than half: its energy counts as estimated", uuid)
        self.metrics.gaps.inc(result.gaps)
        self.metrics.clock_steps.inc(result.clock_steps)
        if self._config.watts_ms:
            max_gap_ms = max(self._max_gap_ms, PERIODS_PER_GAP * self._last_readings[uuid].period_ms)
            self._watts_record.add(uuid, before, result.state, result.intervals, previous, max_gap_ms)
        self._backlog(shares)  # so that a holder without rows sends heartbeats
        if result.intervals:
            self._backlog(previous).add(result.intervals)
            if self._node_energy:
                self._node_energy.add(result.intervals, previous)
            if self._config.held_ms:
                self._holder_record.add(result.intervals, previous)
            self._shares[uuid] = shares

    def _check_names(self, reading: GpuReading) -> GpuReading:
        """Raise BadInput for names or a time that the event contract refuses: the intervals could never be sent."""
        checks.clock(reading.t_ms)
        names = (reading.gpu_uuid, reading.hardware)
        if names not in self._checked:
            checks.text("gpu_uuid", (reading.gpu_uuid,), empty=False)
            checks.text("hardware", (reading.hardware,), empty=False)
            if len(self._checked) < MAX_CHECKED:
                self._checked.add(names)
        return reading

    def _backlog(self, shares: GpuShares) -> Backlog:
        """Return the backlog of GPUs with these shares, a new one at their first appearance."""
        backlog = self._backlogs.get(shares)
        if backlog is None:
            backlog = self._backlogs[shares] = Backlog(self._config.max_rows)
        return backlog

    def _split_node_energy(self, *, end: bool = False) -> None:
        """Add the parts of the node's energy beside its GPUs to the workloads that they belong to."""
        if self._node_energy:
            for binding, part in self._node_energy.split(self._shares, self._clock, end=end):
                self._backlog((BindingShare(binding),)).add((part,))

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
        lost_spans = self._holder_record.lost + self._watts_record.lost
        self.metrics.held_lost.inc(lost_spans - self._lost_spans)
        self._lost_spans = lost_spans
