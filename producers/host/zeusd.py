"""Host counters through zeusd, for a process that may not read them itself.

zeusd unrolls the counters' wraps while it is asked, and knows packages only by the N of `intel-rapl:N`. Where zeusd
is of this machine, the kernel's names and ranges are used, which everyone may read. For another machine they are
`package-N` and `dram-N`, and the smallest range that CPUs have is assumed.
"""

from __future__ import annotations

from pathlib import Path

from contracts.errors import Unavailable
from producers.common.zeusd_client import ZeusdClient
from producers.host.energy import CounterRange
from producers.host.rapl import DRAM, PACKAGE, scan_zones
from producers.host.source import MAX_COUNTER_UJ, ZoneReadings

LEAST_RANGE_UJ = 65_532_610_987
"""Range of 32 bits in units of 15.3 uJ: AMD's packages, and the memory of Intel's servers."""


class ZeusdHostCounters:
    """Counters of the CPUs that zeusd reads. Raises Unavailable if the daemon reads none."""

    source = "zeusd"

    def __init__(self, zeusd: ZeusdClient, powercap: Path) -> None:
        self._zeusd = zeusd
        self._cpus = [cpu.id for cpu in zeusd.discover().cpus]
        if not self._cpus:
            raise Unavailable(f"{zeusd.url} reads no CPU", "Start it as root with --enable cpu-read.", lasting=True)
        self._names = dict[tuple[int, bool], str]()
        """Zone names by (package, is memory)."""
        self.ranges = dict[str, CounterRange]()
        self._measured: set[str] = set()
        """Names of zones that have had a counter."""
        if zeusd.is_local:
            for zone in scan_zones(powercap).zones:
                self._names.setdefault((zone.number, zone.name.startswith(DRAM)), zone.name)
                self.ranges[zone.name] = CounterRange(zone.counter_range.uj, wraps=False)

    def read(self) -> ZoneReadings:
        """Read every CPU. Raises Unavailable if none can be read."""
        energy_by_cpu, errors = self._zeusd.cpu_energy_uj(self._cpus)
        counters_uj: dict[str, int] = {}
        failures: dict[str, str] = {}
        for index, energy in energy_by_cpu.items():
            for uj, is_dram in ((energy.cpu_energy_uj, False), (energy.dram_energy_uj, True)):
                name = self._names.get((index, is_dram), "")
                if uj is None and name not in self._measured:
                    continue  # It does not measure that, unlike one that did before.
                name = self._name(index, is_dram)
                self._measured.add(name)
                if uj is not None and 0 <= uj <= MAX_COUNTER_UJ:
                    counters_uj[name] = uj
                else:
                    failures[name] = f"{self._zeusd.url} says {uj} uJ"
        for index, error in errors.items():
            reason = f"{self._zeusd.url} cannot read CPU {index}: {error}"
            failures |= {name: reason for (cpu, _), name in self._names.items() if cpu == index}
            failures.setdefault(self._name(index, False), reason)
        if not counters_uj and failures:
            raise Unavailable(next(iter(failures.values())), "Its own log says more.")
        return ZoneReadings(counters_uj, failures)

    def _name(self, index: int, is_dram: bool) -> str:
        name = self._names.setdefault((index, is_dram), f"{DRAM if is_dram else PACKAGE}-{index}")
        self.ranges.setdefault(name, CounterRange(LEAST_RANGE_UJ, wraps=False))
        return name
