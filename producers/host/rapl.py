"""RAPL through the kernel's powercap files: `intel-rapl:N/{name,energy_uj,max_energy_range_uj}`, on Intel and AMD.

Zones whose energy adds up: each package, and beside it its memory. Parts of a package (core, uncore) are left out, and
so is `intel-rapl-mmio`, which shows a package a second time. `psys` is the whole platform, packages included: it is
read where there is one, under its own name, and must never be added to the others.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from contracts.errors import Unavailable
from producers.common.printable import printable
from producers.host.energy import CounterRange
from producers.host.source import MAX_COUNTER_UJ, ZoneReadings
from producers.runtime.refusals import refusal

log = logging.getLogger(__name__)

POWERCAP = Path("/sys/class/powercap")
PACKAGE, DRAM, PSYS = "package", "dram", "psys"
_NO_ZONES_HINT = (
    "Load the kernel's intel_rapl_msr (it serves AMD too). Virtual machines have none; in a container, mount the "
    "node's /sys/devices/virtual/powercap read-only and name it (`powercap`)."
)
_FORBIDDEN_HINT = (
    "Only root may read it since 2020 (CVE-2020-8694). Give its group the right on the node, run this producer alone "
    "as root without capabilities, or read it through zeusd (`zeusd`): producers/host/README.md says how."
)


class RaplZone(NamedTuple):
    """Zone with a counter. `name` is package-0, dram-0 or psys; `number` is the N of `intel-rapl:N`."""

    name: str
    number: int
    counter_range: CounterRange
    path: Path


class RaplCounters:
    """Counters of the zones under a powercap folder. Raises Unavailable if there are none."""

    source = "rapl"

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = zones(powercap)
        if not self._zones:
            raise Unavailable(f"No CPU measures energy under {powercap}", _NO_ZONES_HINT)

    @property
    def ranges(self) -> dict[str, CounterRange]:
        return {zone.name: zone.counter_range for zone in self._zones}

    def read(self) -> ZoneReadings:
        """Read every zone. Raises Unavailable naming the first file if none can be read."""
        counters_uj: dict[str, int] = {}
        failures: dict[str, str] = {}
        first_error: Exception | None = None
        for zone in self._zones:
            try:
                counters_uj[zone.name] = _read_number(zone.path / "energy_uj")
            except Exception as error:
                failures[zone.name] = refusal(error)
                first_error = first_error or error
        if first_error is not None and not counters_uj:
            raise first_error
        return ZoneReadings(counters_uj, failures)


def zones(powercap: Path) -> Sequence[RaplZone]:
    """Return the zones that count, in order; a malformed one is logged and left out.

    Raises Unavailable for a folder that cannot be read.
    """
    result: list[RaplZone] = []
    for top in sorted(_top_folders(powercap), key=lambda path: _number(path.name)):
        try:
            result += _zones_of(top)
        except Exception as error:
            log.warning("a zone is left out: %s", refusal(error, top.name))
    return result


def _zones_of(top: Path) -> Iterator[RaplZone]:
    """Yield the zone of a folder, and the zone of its memory where it has one."""
    name, number = printable(_read_text(top / "name")), _number(top.name)
    if not name.startswith((PACKAGE, PSYS)):
        return
    yield _zone(top, name, number)
    for part in sorted(top.glob(f"{top.name}:*")):
        if _read_text(part / "name") == DRAM and name.startswith(PACKAGE):
            yield _zone(part, DRAM + name.removeprefix(PACKAGE), number)


def _top_folders(powercap: Path) -> list[Path]:
    """Return the folders of zones that are no part of another.

    Under /sys/class/powercap they are side by side, under /sys/devices/virtual/powercap in a folder of their own.
    """
    try:
        for folder in (powercap, powercap / "intel-rapl"):
            if tops := [p for p in folder.glob("intel-rapl:*") if p.name.count(":") == 1 and (p / "name").exists()]:
                return tops
    except OSError as error:
        raise Unavailable(f"{powercap} cannot be read: {error}", _NO_ZONES_HINT) from None
    return []


def _zone(path: Path, name: str, number: int) -> RaplZone:
    return RaplZone(name, number, CounterRange(_read_number(path / "max_energy_range_uj")), path)


def _number(name: str) -> int:
    number = name.rpartition(":")[2]
    return int(number) if number.isdigit() else -1


def _read_number(path: Path) -> int:
    text = _read_text(path)
    if not text.isdigit() or len(text) > 19 or int(text) > MAX_COUNTER_UJ:
        raise Unavailable(f"{path} says {text[:60]!r}", "It should be a whole number of microjoules: is that powercap?")
    return int(text)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except PermissionError:
        raise Unavailable(f"{path} may not be read by this user", _FORBIDDEN_HINT, reason="forbidden") from None
    except Exception as error:
        raise Unavailable(f"{path} cannot be read: {error}", "Was the module unloaded?") from None
