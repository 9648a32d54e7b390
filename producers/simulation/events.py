"""A SIMULATED fleet as a stream of events, exactly repeatable: the same seed, start and spec give the same bytes.

Requests arrive, run, and load GPUs. The load gives watts, and the watts move energy counters, which are read once
a second and turned into intervals by the agents' own code (`producers.gpu.meter`). The stream is what the
agents of six nodes and the gateways of eight workloads would have sent. `fleet` describes them, `faults` describes
what may go wrong.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from contracts import topics
from contracts.columns import I64
from contracts.events import Batch, Event
from producers.gpu.meter import add_reading
from producers.gpu.meter_state import MeterState
from producers.gpu.readings import EnergyInterval, GpuReading
from producers.runtime.event_sequence import Sequencer, event_of, heartbeat_batch, power_batch, source_of
from producers.simulation.faults import Faults, disturb
from producers.simulation.fleet import F64, FleetSpec, SimulatedGpu, SimulatedWorkload, busy, default_spec, watts
from producers.simulation.reference_data import clusters, idle_floors, prices, tenants
from producers.simulation.requests import SimulatedRequests, arrivals

__all__ = [
    "Faults",
    "FleetSpec",
    "FleetTotals",
    "SimulatedFleet",
    "clusters",
    "default_spec",
    "idle_floors",
    "prices",
    "tenants",
]

KIND, GATEWAY = "simulated", "simulated-gateway"
BLOCK_MS = 60_000
"""Event time that is simulated at once."""


@dataclass(slots=True)
class FleetTotals:
    """Totals of what was sent, with each event counted once: the oracle of tests.

    Energy is in microjoules by cluster; the other totals are by tenant.
    """

    energy_uj: Counter[str] = field(default_factory=Counter)
    unallocated_uj: int = 0
    intervals: int = 0
    events: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    prompt_tokens: Counter[str] = field(default_factory=Counter)
    cached_tokens: Counter[str] = field(default_factory=Counter)
    completion_tokens: Counter[str] = field(default_factory=Counter)
    resets: int = 0

    def _add(self, workload: SimulatedWorkload, requests: SimulatedRequests) -> None:
        for place, (tenant, _) in enumerate(workload.shares):
            mine = requests.tenant == place
            self.requests[tenant.name] += int(mine.sum())
            self.failures[tenant.name] += int((requests.status[mine] > 0).sum())
            self.prompt_tokens[tenant.name] += int(requests.prompt_tokens[mine].sum())
            self.cached_tokens[tenant.name] += int(requests.cached_tokens[mine].sum())
            self.completion_tokens[tenant.name] += int(requests.completion_tokens[mine].sum())


class SimulatedFleet:
    """A simulated fleet. `SimulatedFleet(seed).events(start_ms, duration_ms)` is its stream, and fleets of one seed
    and spec are alike.
    """

    def __init__(self, seed: int, spec: FleetSpec | None = None, faults: Faults | None = None) -> None:
        self.seed = seed
        self.spec = spec or default_spec()
        self.faults = faults or Faults()

    def events(
        self, start_ms: int, duration_ms: int | None = None, *, totals: FleetTotals | None = None, closing_ms: int = 0
    ) -> Iterator[Event]:
        """Yield events of both topics in order of event time (but for faults), without end if no duration is given.

        All events are in `[start_ms, start_ms + duration_ms)`: requests that still run at the end are not sent. With
        `closing_ms`, every source then says that it is complete up to that long after the end, so that windows
        close. `totals` is filled as the events are taken. Epochs of the events are `start_ms`.
        """
        oracle = totals if totals is not None else FleetTotals()
        return disturb(self._events(start_ms, duration_ms, oracle, closing_ms), self.faults, self.seed)

    def totals(self, start_ms: int, duration_ms: int) -> FleetTotals:
        """Return the totals of `events` with the same arguments."""
        totals = FleetTotals()
        for _ in self._events(start_ms, duration_ms, totals, 0):
            pass
        return totals

    def _events(self, start_ms: int, duration_ms: int | None, totals: FleetTotals, closing_ms: int) -> Iterator[Event]:
        numbers = Sequencer(start_ms)
        end_ms = None if duration_ms is None else start_ms + duration_ms
        gateways = {(w.cluster, w.name): _Gateway(self, w, numbers, totals) for w in self.spec.workloads}
        agents = [
            _Agent(
                fleet=self,
                cluster=cluster,
                node=node,
                workload=name,
                owner=owner,
                gateway=gateways.get((cluster, name)),
                gpus=gpus,
                numbers=numbers,
                totals=totals,
            )
            for cluster, node, name, owner, _, gpus in self.spec.groups()
        ]
        block_ms = start_ms
        while end_ms is None or block_ms < end_ms:
            until_ms = block_ms + BLOCK_MS if end_ms is None else min(block_ms + BLOCK_MS, end_ms)
            block: list[Event] = []
            for gateway in gateways.values():
                block += gateway.block(block_ms, until_ms)
            for agent in agents:
                block += agent.block(block_ms, until_ms)
            block.sort(key=lambda event: event.batch.event_ms)
            totals.events += len(block)
            yield from block
            block_ms = until_ms
        if closing_ms:
            last = block_ms + closing_ms
            for event in (*(g.heartbeat(last) for g in gateways.values()), *(a.heartbeat(last) for a in agents)):
                totals.events += 1
                yield event


def _rng(seed: int, *names: str | int) -> np.random.Generator:
    """Return a generator for one purpose, so that one more workload does not change the others."""
    return np.random.default_rng([seed, *(zlib.crc32(n.encode()) if isinstance(n, str) else n for n in names)])


class _Gateway:
    """Sends the requests of one workload as they end."""

    def __init__(
        self, fleet: SimulatedFleet, workload: SimulatedWorkload, numbers: Sequencer, totals: FleetTotals
    ) -> None:
        self._fleet, self.workload, self._numbers, self._totals = fleet, workload, numbers, totals
        self._source = source_of(GATEWAY, workload.cluster, "gateway", workload.name)
        self._count = 0
        self.running: SimulatedRequests | None = None
        """Requests that had not ended a second before this block."""

    def block(self, start_ms: int, end_ms: int) -> Iterator[Event]:
        fleet, w = self._fleet, self.workload
        rng = _rng(fleet.seed, w.cluster, w.name, start_ms)
        failed = fleet.spec.failed + fleet.faults.failed
        arrived = arrivals(w, start_ms, end_ms - start_ms, rng, failed=failed, first=self._count)
        self._count += len(arrived)
        if self.running is not None:
            still = self.running.t_end_ms >= start_ms - 2 * fleet.spec.sample_ms
            arrived = self.running.where(still).plus(arrived)
        self.running = arrived
        return self._send(arrived.where(np.argsort(arrived.t_end_ms, kind="stable")), start_ms, end_ms)

    def _send(self, ended: SimulatedRequests, start_ms: int, end_ms: int) -> Iterator[Event]:
        publish_ms = self._fleet.spec.publish_ms
        for from_ms in range(start_ms, end_ms, publish_ms):
            until_ms = min(from_ms + publish_ms, end_ms)
            begin, end = np.searchsorted(ended.t_end_ms, (from_ms, until_ms))
            rows = ended.where(slice(begin, end))
            self._totals._add(self.workload, rows)
            batch = rows.batch(self.workload, self.workload.name, until_ms)
            yield self._event(batch if len(rows) else heartbeat_batch(topics.TOKENS, until_ms))

    def heartbeat(self, t_ms: int) -> Event:
        return self._event(heartbeat_batch(topics.TOKENS, t_ms))

    def _event(self, batch: Batch) -> Event:
        return event_of(self._numbers, self._source, self.workload.cluster, self.workload.name, batch)


class _Agent:
    """Sends the intervals of the GPUs of one node that one workload occupies, or none."""

    def __init__(
        self,
        fleet: SimulatedFleet,
        cluster: str,
        node: str,
        workload: str,
        owner: str,
        gateway: _Gateway | None,
        gpus: tuple[SimulatedGpu, ...],
        numbers: Sequencer,
        totals: FleetTotals,
    ) -> None:
        self._fleet, self._cluster, self._node, self._workload, self._owner = fleet, cluster, node, workload, owner
        self._gateway, self._gpus, self._numbers, self._totals = gateway, gpus, numbers, totals
        self._source = source_of(KIND, cluster, node, workload)
        self._phase_ms = zlib.crc32(node.encode()) % fleet.spec.sample_ms
        rng = _rng(fleet.seed, "gpus", node, workload)
        self._efficiency = rng.normal(1.0, 0.02, len(gpus)).clip(0.95, 1.05)
        self._counter_mj: I64 = rng.integers(10**9, 10**12, len(gpus))
        self._states: list[MeterState | None] = [None] * len(gpus)

    def block(self, start_ms: int, end_ms: int) -> Iterator[Event]:
        spec = self._fleet.spec
        first = start_ms + (self._phase_ms - start_ms) % spec.sample_ms
        times = np.arange(first, end_ms, spec.sample_ms)
        rows: list[list[EnergyInterval]] = [[] for _ in range(start_ms, end_ms, spec.publish_ms)]
        if len(times):
            rng = _rng(self._fleet.seed, "power", self._node, self._workload, start_ms)
            used = self._busy(times)
            mw = self._milliwatts(used, rng)
            for place in range(len(self._gpus)):
                for interval in self._intervals(place, times, mw[:, place], used, rng):
                    rows[max(interval.t1_ms - start_ms, 0) // spec.publish_ms].append(interval)
        for n, intervals_of_event in enumerate(rows):
            yield self._event(intervals_of_event, min(start_ms + (n + 1) * spec.publish_ms, end_ms))

    def heartbeat(self, t_ms: int) -> Event:
        return self._event([], t_ms)

    def _busy(self, times: I64) -> F64:
        """Return the busy ratio of the sample that ends at each time."""
        requests = self._gateway.running if self._gateway else None
        if self._gateway is None or requests is None:
            return np.zeros(len(times))
        edges = np.concatenate((times[:1] - self._fleet.spec.sample_ms, times))
        return busy(requests.demand(self._gateway.workload, edges) / self._gateway.workload.capacity)

    def _milliwatts(self, used: F64, rng: np.random.Generator) -> I64:
        """Return power by sample (rows) and GPU (columns), in the counter's resolution, so that counter and watts
        agree.
        """
        draws = np.stack([watts(gpu.hardware, used) for gpu in self._gpus], axis=1)
        draws *= self._efficiency * rng.normal(1.0, 0.01, draws.shape)
        max_w = np.asarray([gpu.hardware.max_w for gpu in self._gpus])
        mw: I64 = np.rint(np.minimum(draws, max_w) * 1000).astype(np.int64)
        return mw

    def _intervals(
        self, place: int, times: I64, mw: I64, used: F64, rng: np.random.Generator
    ) -> Iterator[EnergyInterval]:
        """Yield the intervals that an agent makes of this GPU's readings."""
        gpu, faults = self._gpus[place], self._fleet.faults
        counter = self._counter_mj[place] + np.cumsum(mw * self._fleet.spec.sample_ms // 1000)
        reset, gap, where, length = rng.random(4)
        at = int(where * len(times))
        if reset < faults.counter_reset:
            counter[at:] -= counter[at]
        missing = range(at, min(at + 10 + int(length * 30), len(times))) if gap < faults.gap else range(0)
        self._counter_mj[place] = counter[-1]
        state, name, id_ = self._states[place], gpu.hardware.name, gpu.uuid
        columns = zip(times.tolist(), counter.tolist(), (mw / 1000).tolist(), used.tolist(), strict=True)
        for n, (t_ms, counter_mj, w, u) in enumerate(columns):
            if n in missing:
                continue
            took = add_reading(
                state,
                GpuReading(
                    gpu_uuid=id_,
                    hardware=name,
                    t_ms=t_ms,
                    monotonic_ms=t_ms,
                    counter_mj=counter_mj,
                    watts=w,
                    utilisation=u,
                ),
            )
            state = took.state
            self._totals.resets += took.resets
            yield from took.intervals
        self._states[place] = state

    def _event(self, rows: list[EnergyInterval], t_ms: int) -> Event:
        energy_uj = sum(row.energy_uj for row in rows)
        self._totals.intervals += len(rows)
        self._totals.energy_uj[self._cluster] += energy_uj
        if self._gateway is None:
            self._totals.unallocated_uj += energy_uj
        columns = ((r.gpu_uuid, r.hardware, r.t0_ms, r.t1_ms, r.energy_uj, r.method, r.busy_ms) for r in rows)
        batch = power_batch(self._node, columns, owner=self._owner, t_ms=0 if rows else t_ms)
        return event_of(self._numbers, self._source, self._cluster, self._workload, batch)
