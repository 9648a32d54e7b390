"""A host's energy as a source of a collector: rows of `wattlog.usage.v1`, under the node itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from contracts import topics
from producers.host import energy
from producers.host.energy import CounterRange, HostCounterSnapshot, ZoneEnergy
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.event_sequence import source_of
from producers.runtime.poll_loop import Collected, Made

METER, UNIT = "host_energy_uj", "uJ"


class HostCounters(Protocol):
    """Where the counters are read: `Rapl` or `ZeusdHost`. Reading them raises Unavailable."""

    @property
    def source(self) -> str: ...
    @property
    def ranges(self) -> Mapping[str, CounterRange]: ...
    def counters_uj(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class HostEnergySource:
    """See the module. `boot` names this run of the machine; `max_zone_w` is more than any zone draws."""

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

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """Raises Unavailable where the counters cannot be read: the next look then spans the time."""
        counters = self.counters.counters_uj()
        now = HostCounterSnapshot(self.boot, clock.monotonic_ms(), clock.wall_ms(), counters)
        before = msgspec.msgpack.decode(mark, type=HostCounterSnapshot) if mark else None
        took = energy.energy_since(before, now, self.counters.ranges, self.max_zone_w)
        made = []
        if took.used:
            rows = [self._row(used) for used in took.used]
            batch = usage_batch(rows, took.look.event_ms)
            made = [Made(self.cluster, topics.node_workload(self.node), batch, self.node)]
        return Collected(made, msgspec.msgpack.encode(took.look), refused=took.unknown)

    def _row(self, used: ZoneEnergy) -> UsageRow:
        workload = topics.node_workload(self.node)
        return UsageRow(
            METER, UNIT, str(used.energy_uj), used.t0_ms, used.t1_ms,
            origin=source_of(self.kind, self.cluster, self.node, workload),
            event_id=f"{self.name}/{used.zone}/{used.t0_ms}-{used.t1_ms}",
            dimensions={"node": self.node, "zone": used.zone, "source": self.name},
        )  # fmt: skip
