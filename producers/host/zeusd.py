"""A host's counters through zeusd, for a process that may not read them itself.

zeusd unrolls the counters' rounds while it is asked, and knows packages by the N of `intel-rapl:N` alone. What they are
called, and how far they count, is readable by everybody where zeusd is of this machine; elsewhere they are `package-N`
and `dram-N`, and the smallest range that CPUs have is assumed.
"""

from __future__ import annotations

from pathlib import Path

from contracts.errors import Unavailable
from producers.gpu.zeusd.client import ZeusdClient
from producers.host.energy import CounterRange
from producers.host.rapl import DRAM, PACKAGE, zones

LEAST_RANGE_UJ = 65_532_610_987
"""Of 32 bits in units of 15.3 uJ: AMD's, and Intel's servers' memory."""


class ZeusdHostCounters:
    """See the module. Raises Unavailable where the daemon reads no CPU."""

    source = "zeusd"

    def __init__(self, zeusd: ZeusdClient, powercap: Path) -> None:
        self._zeusd = zeusd
        self._cpus = {cpu.id: cpu.dram_available for cpu in zeusd.discover().all_cpus()}
        if not self._cpus:
            raise Unavailable(f"{zeusd.url} reads no CPU", "Start it as root with --enable cpu-read.", lasting=True)
        self._names = dict[tuple[int, bool], str]()
        """By package and whether it is its memory."""
        self.ranges = dict[str, CounterRange]()
        if zeusd.is_local:
            for zone in zones(powercap):
                self._names[zone.number, zone.name.startswith(DRAM)] = zone.name
                self.ranges[zone.name] = CounterRange(zone.counts.uj, wraps=False)

    def counters_uj(self) -> dict[str, int]:
        """Where each counter stands. Raises Unavailable where one cannot be read."""
        found, failed = self._zeusd.cpu_energy_uj(self._cpus)
        if failed:
            index, why = next(iter(failed.items()))
            raise Unavailable(f"{self._zeusd.url} cannot read CPU {index}: {why}", "Its own log says more.")
        counters = dict[str, int]()
        for index, energy in found.items():
            for uj, dram in ((energy.cpu_energy_uj, False), (energy.dram_energy_uj, True)):
                if uj is not None:
                    counters[self._name(index, dram)] = uj
        return counters

    def _name(self, index: int, dram: bool) -> str:
        name = self._names.setdefault((index, dram), f"{DRAM if dram else PACKAGE}-{index}")
        self.ranges.setdefault(name, CounterRange(LEAST_RANGE_UJ, wraps=False))
        return name
