"""Stand-ins for a node: meters whose readings a test decides, GPUs of any watts, and an agent that has both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from contracts.boundary import HOST, WALL_LESS_GPUS
from contracts.events import Event, PowerBatch
from producers.bindings.apportion import Binding, GpuShares
from producers.boundary.meters import CounterMeter, LazyCounters, NodeMeter, WattsMeter, device_of
from producers.boundary.node_energy import NodeEnergy
from producers.boundary.reading import DirectReader
from producers.gpu.readings import GpuReading
from producers.host.energy import CounterRange
from producers.host.source import ZoneReadings
from producers.runtime.agent import Agent, AgentConfig
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.clock import Clock
from producers.runtime.delivery import Delivery
from producers.runtime.spool import Spool
from tests.support.brokers import FakeBroker
from tests.support.clocks import T0, FakeClock

RANGE_UJ = 65_532_610_987
CONFIG = AgentConfig("east", "n1", boot="this one")


class Gpus:
    """GPUs with energy counters that grow by constant watts, `watts` by UUID."""

    kind = "nvml"

    def __init__(self, watts: Mapping[str, int]) -> None:
        self.watts = dict(watts)

    def discover(self) -> Sequence[str]:
        return list(self.watts)

    def readings(self, clock: Clock) -> Sequence[GpuReading]:
        now_ms = clock.monotonic_ms()
        return [
            GpuReading(uuid, "H100", clock.wall_ms(), now_ms, counter_mj=1_000 + watts * now_ms, watts=float(watts))
            for uuid, watts in self.watts.items()
        ]


class Counters:
    """Counters of zones that grow by constant watts, and wrap."""

    source = "rapl"

    def __init__(self, clock: FakeClock, **watts: int) -> None:
        self._clock, self._watts = clock, watts
        self.ranges = {zone: CounterRange(RANGE_UJ) for zone in watts}

    def read(self) -> ZoneReadings:
        now_ms = self._clock.now_ms
        return ZoneReadings(
            {zone: (w * 1_000 * now_ms + 65_000_000_000) % RANGE_UJ for zone, w in self._watts.items()}, {}
        )


def host_meter(clock: FakeClock, **watts: int) -> NodeMeter:
    """Return a meter by RAPL's counters, by zone."""
    counters = LazyCounters(lambda: Counters(clock, **watts), ("package", "dram"))
    return CounterMeter("rapl", device_of("n1", HOST), DirectReader(counters.read), "this one", 1_000.0)


def wall_meter(watts: Callable[[], float]) -> NodeMeter:
    """Return a meter of the wall by watts, which may raise."""
    return WattsMeter("redfish", device_of("n1", WALL_LESS_GPUS), DirectReader(watts), 1_000)


def agent_of(
    clock: FakeClock, gpus: Gpus, log: FakeBroker, spool: Spool, meter: NodeMeter | None,
    bindings: Callable[[], Mapping[str, Binding | GpuShares]] = dict, config: AgentConfig = CONFIG,
    registry: CollectorRegistry | None = None,
) -> Agent:  # fmt: skip
    """Return an agent of the node n1 that continues from the spool's checkpoints."""
    metrics, checkpoints = AgentMetrics(registry or CollectorRegistry()), spool.checkpoints()
    node = NodeEnergy(meter, config.node, config.boot, metrics, checkpoints) if meter else None
    delivery = Delivery(spool, log)
    return Agent(config, gpus, delivery, clock, bindings, metrics, checkpoints=checkpoints, node_energy=node)


def power_rows(events: Sequence[Event]) -> list[tuple[str, str, str, int, int, int]]:
    """(workload, device, hardware, t0, t1, energy in uJ) of every row, times counted from T0."""
    return [
        (event.workload, *b.gpus[g], int(t0) - T0, int(t1) - T0, int(e))
        for event in events if isinstance(b := event.batch, PowerBatch)
        for g, t0, t1, e in zip(b.gpu, b.t0_ms, b.t1_ms, b.energy_uj, strict=True)
    ]  # fmt: skip


def energy_by(events: Sequence[Event]) -> Counter[tuple[str, str]]:
    """Microjoules by workload and hardware."""
    totals: Counter[tuple[str, str]] = Counter()
    for workload, _, hardware, _, _, energy_uj in power_rows(events):
        totals[workload, hardware] += energy_uj
    return totals


def distinct(events: Sequence[Event]) -> list[Event]:
    """Return events as a worker sees them: each identity once."""
    return list({(e.source, e.epoch, e.seq): e for e in events}.values())


def powercap(folder: Path, **zones: int) -> Path:
    """Write a folder of RAPL packages with these counters in uJ."""
    for number, (name, uj) in enumerate(zones.items()):
        zone = folder / f"intel-rapl:{number}"
        zone.mkdir(parents=True)
        for file, text in (("name", name.replace("_", "-")), ("max_energy_range_uj", RANGE_UJ), ("energy_uj", uj)):
            (zone / file).write_text(f"{text}\n")
    return folder


def grace(folder: Path, meters: Mapping[str, bytes], *, below: str = "device") -> Path:
    """Write a folder of hwmon devices as Grace has them: power in microwatts by what the firmware calls a meter."""
    for number, (name, microwatts) in enumerate(meters.items()):
        device = folder / f"hwmon{number}" / below
        device.mkdir(parents=True, exist_ok=True)
        (device / "power1_oem_info").write_text(f"{name}\n")
        (device / "power1_average").write_bytes(microwatts)
    return folder
