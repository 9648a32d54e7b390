"""RAPL by the kernel's powercap files: `intel-rapl:N/{name,energy_uj,max_energy_range_uj}`, on Intel and on AMD.

Zones whose energy adds up: each package, and beside it its memory. What is a part of a package (core, uncore) is left
out, and so is `intel-rapl-mmio`, which shows a package a second time. `psys` is the whole platform, packages and all:
it is read where there is one, under its own name, and must never be added to the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from contracts.errors import Unavailable
from producers.host.energy import CounterRange

POWERCAP = Path("/sys/class/powercap")
PACKAGE, DRAM, PSYS = "package", "dram", "psys"
_NONE = (
    "Load the kernel's intel_rapl_msr (it serves AMD too). Virtual machines have none; in a container, mount the "
    "node's /sys/devices/virtual/powercap read-only and name it (`powercap`)."
)
_MEND = (
    "Only root may read it since 2020 (CVE-2020-8694). Give its group the right on the node, run this producer alone "
    "as root without capabilities, or read it through zeusd (`zeusd`): docs/producers/host.md says how."
)


class RaplZone(NamedTuple):
    """A counter. `name` is package-0, dram-0, psys; `number` the N of `intel-rapl:N`."""

    name: str
    number: int
    counts: CounterRange
    path: Path


class RaplCounters:
    """The zones under a powercap folder. Raises Unavailable where there are none."""

    source = "rapl"

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = zones(powercap)
        if not self._zones:
            raise Unavailable(f"No CPU measures energy under {powercap}", _NONE)

    @property
    def ranges(self) -> dict[str, CounterRange]:
        return {zone.name: zone.counts for zone in self._zones}

    def counters_uj(self) -> dict[str, int]:
        """Where each counter stands. Raises Unavailable naming the file that cannot be read."""
        return {zone.name: _whole(zone.path / "energy_uj") for zone in self._zones}


def zones(powercap: Path) -> Sequence[RaplZone]:
    """The zones that count, in order. Raises Unavailable for a folder that cannot be read."""
    found: list[RaplZone] = []
    for top in sorted(_tops(powercap), key=lambda path: _index(path.name)):
        name, index = _text(top / "name"), _index(top.name)
        if not name.startswith((PACKAGE, PSYS)):
            continue
        found.append(_zone(top, name, index))
        for part in sorted(top.glob(f"{top.name}:*")):
            if _text(part / "name") == DRAM and name.startswith(PACKAGE):
                found.append(_zone(part, DRAM + name.removeprefix(PACKAGE), index))
    return found


def _tops(powercap: Path) -> list[Path]:
    """Under /sys/class/powercap they lie side by side, under /sys/devices/virtual/powercap in a folder of their own."""
    try:
        for folder in (powercap, powercap / "intel-rapl"):
            if found := [p for p in folder.glob("intel-rapl:*") if p.name.count(":") == 1 and (p / "name").exists()]:
                return found
    except OSError as error:
        raise Unavailable(f"{powercap} cannot be read: {error}", _NONE) from None
    return []


def _zone(path: Path, name: str, index: int) -> RaplZone:
    return RaplZone(name, index, CounterRange(_whole(path / "max_energy_range_uj")), path)


def _index(name: str) -> int:
    number = name.rpartition(":")[2]
    return int(number) if number.isdigit() else -1


def _whole(path: Path) -> int:
    text = _text(path)
    if not text.isdigit():
        raise Unavailable(f"{path} says {text!r}", "It should be a whole number of microjoules: is that powercap?")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except PermissionError:
        raise Unavailable(f"{path} may not be read by this user", _MEND, reason="forbidden") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(f"{path} cannot be read: {error}", "Was the module unloaded?") from None
