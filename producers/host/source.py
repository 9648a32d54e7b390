"""Polled source of a host's energy: rows of `wattlog.usage.v1` under the node itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from contracts import topics
from contracts.meter_names import HOST_METER
from producers.api import PollResult, WorkloadBatch
from producers.gpu.event_time import ClockPoint
from producers.host.energy import CounterRange, HostCounterSnapshot, HostEnergyDelta, ZoneEnergy, energy_since
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.event_sequence import source_of
from producers.runtime.refusals import at_place

METER, UNIT = HOST_METER, "uJ"
MAX_COUNTER_UJ = 2**63 - 1


class ZoneReadings(NamedTuple):
    """Counters in uJ by zone, and by zone why its counter cannot be read.

    Of several zones with one name, all but the first have `@` and their folder after it.
    """

    counters_uj: dict[str, int]
    failures: dict[str, str]


class HostCounters(Protocol):
    """Reader of a host's counters: `RaplCounters`, `ZeusdHostCounters` or `PmCounters`.

    `source` is "rapl", "zeusd" or "pm_counters".
    """

    @property
    def source(self) -> str: ...
    @property
    def ranges(self) -> Mapping[str, CounterRange]: ...
    def read(self) -> ZoneReadings:
        """Read every zone. Raises Unavailable if none can be read."""
        ...


@runtime_checkable
class CountsInRuns(Protocol):
    """Optional capability of a reader: `run` identifies the run of whatever counts, as of the last reading.

    It is for counters that may begin anew while the machine runs.
    """

    @property
    def run(self) -> str: ...


@dataclass(frozen=True)
class HostEnergySource:
    """Energy of a host's zones. `boot` identifies this run of the machine; no zone draws more than `max_zone_w`."""

    counters: HostCounters
    cluster: str
    node: str
    boot: str
    every_ms: int = 10_000
    max_zone_w: float = 1_000.0

    kind = "host"

    @property
    def name(self) -> str:
        return self.counters.source

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Return the energy since the checkpoint. Raises Unavailable if no zone can be read: the next call covers the
        time."""
        readings = self.counters.read()
        at = ClockPoint(clock.monotonic_ms(), clock.wall_ms())
        before = msgspec.msgpack.decode(checkpoint, type=HostCounterSnapshot) if checkpoint else None
        delta = delta_since(before, self.counters, readings, at, self.boot, self.max_zone_w)
        batches = []
        if delta.energy:
            batch = usage_batch([self._row(energy) for energy in _sums_by_name(delta.energy)], delta.snapshot.event_ms)
            batches = [WorkloadBatch(self.cluster, topics.node_workload(self.node), batch, self.node)]
        refused = (*delta.unknown, *(at_place(zone, reason) for zone, reason in readings.failures.items()))
        return PollResult(batches, msgspec.msgpack.encode(delta.snapshot), refused=refused)

    def _row(self, energy: ZoneEnergy) -> UsageRow:
        workload = topics.node_workload(self.node)
        return UsageRow(
            meter=METER,
            unit=UNIT,
            quantity=str(energy.energy_uj),
            t0_ms=energy.t0_ms,
            t1_ms=energy.t1_ms,
            origin=source_of(self.kind, self.cluster, self.node, workload),
            event_id=f"{self.name}/{energy.zone}/{energy.t0_ms}-{energy.t1_ms}",
            dimensions={"node": self.node, "zone": energy.zone, "source": self.name},
        )


def delta_since(
    before: HostCounterSnapshot | None, counters: HostCounters, readings: ZoneReadings, at: ClockPoint, boot: str,
    max_zone_w: float,
) -> HostEnergyDelta:  # fmt: skip
    """Return the energy since a snapshot by counters that were read at a moment of this `boot` of the machine."""
    run = f"{boot}/{counters.run}" if isinstance(counters, CountsInRuns) else boot
    now = HostCounterSnapshot(run, at.monotonic_ms, at.event_ms, readings.counters_uj)
    delta = energy_since(before, now, counters.ranges, max_zone_w, readings.failures)
    if before and before.boot != run and before.boot.partition("/")[0] == boot:
        began_anew = "all zones: their counters began anew, and the time since the last reading is unknown"
        return delta._replace(unknown=(*delta.unknown, began_anew))
    return delta


def _sums_by_name(energy: Iterable[ZoneEnergy]) -> list[ZoneEnergy]:
    """Sum the energy of zones with one name over the same time."""
    sums: dict[tuple[str, int, int], int] = {}
    for zone, t0_ms, t1_ms, energy_uj in energy:
        span = zone.partition("@")[0], t0_ms, t1_ms
        sums[span] = sums.get(span, 0) + energy_uj
    return [ZoneEnergy(*span, energy_uj) for span, energy_uj in sums.items()]
