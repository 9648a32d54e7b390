"""RAPL through the kernel's powercap files: `intel-rapl:N/{name,energy_uj,max_energy_range_uj}`, on Intel and AMD.

Zones whose energy adds up: each package, and beside it its memory. Parts of a package (core, uncore) are left out, and
so is `intel-rapl-mmio`, which shows a package a second time. `psys` is the whole platform, packages included: it is
read where there is one, under its own name, and must never be added to the others.

Zones of one name (two `dram` of a package, `package-0` of two drivers) are read apart, by path, and their energy is
summed (`producers.host.source`). A zone that cannot be read costs no other one; it is named at each reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from contracts.errors import Unavailable
from producers.common.printable import printable
from producers.host.energy import CounterRange
from producers.host.source import MAX_COUNTER_UJ, ZoneReadings
from producers.runtime.refusals import refusal

POWERCAP = Path("/sys/class/powercap")
PACKAGE, DRAM, PSYS = "package", "dram", "psys"
_NO_ZONES_HINT = (
    "Load the kernel's intel_rapl_msr (it serves AMD too). Virtual machines have none; in a container, mount the "
    "node's /sys/devices/virtual/powercap read-only and name it (`powercap` of [produce.host], `at` of "
    "[produce.boundary])."
)
_FORBIDDEN_HINT = (
    "Only root may read it since 2020 (CVE-2020-8694). Give its group the right on the node, run this producer alone "
    'as root without capabilities, or read it through zeusd (`zeusd` of [produce.host], `host = "zeusd"` of '
    "[produce.boundary]): producers/host/README.md says how."
)


class RaplZone(NamedTuple):
    """Zone with a counter. `name` is package-0, dram-0 or psys; of several with one name, all but the first have
    `@` and their folder after it. `number` is the N of `intel-rapl:N`."""

    name: str
    number: int
    counter_range: CounterRange
    path: Path


class ZoneScan(NamedTuple):
    """Zones that count, in order, and by name or folder why each other one cannot be read."""

    zones: Sequence[RaplZone]
    failures: Mapping[str, Exception]


class RaplCounters:
    """Counters of the zones under a powercap folder. Raises Unavailable if there are none."""

    source = "rapl"

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap, self._zones, self._failures = powercap, dict[str, RaplZone](), dict[str, Exception]()
        self._scan()
        if not self._zones:
            first_error = next(iter(self._failures.values()), None)
            raise first_error or Unavailable(f"No CPU measures energy under {powercap}", _NO_ZONES_HINT)

    @property
    def ranges(self) -> dict[str, CounterRange]:
        return {zone.name: zone.counter_range for zone in self._zones.values()}

    def read(self) -> ZoneReadings:
        """Read every zone. Raises Unavailable naming the first file if none can be read."""
        if self._failures:
            self._scan()
        counters_uj: dict[str, int] = {}
        errors = dict(self._failures)
        for zone in self._zones.values():
            try:
                counters_uj[zone.name] = _read_number(zone.path / "energy_uj")
            except Exception as error:
                errors[zone.name] = error
        if errors and not counters_uj:
            raise next(iter(errors.values()))
        return ZoneReadings(counters_uj, {name: refusal(error) for name, error in errors.items()})

    def _scan(self) -> None:
        """Look for the zones that are not known yet. A known one stays, with its range."""
        scan = scan_zones(self._powercap)
        self._zones = {zone.name: zone for zone in scan.zones} | self._zones
        self._failures = {name: error for name, error in scan.failures.items() if name not in self._zones}


def scan_zones(powercap: Path) -> ZoneScan:
    """Return the zones that count. Raises Unavailable for a folder that cannot be read."""
    zones: list[RaplZone] = []
    failures: dict[str, Exception] = {}
    names = set[str]()
    for top in sorted(_top_folders(powercap), key=lambda path: _number(path.name)):
        for name, path in _named_folders(top, failures):
            key = f"{name}@{path.name}" if name in names else name
            names.add(name)
            try:
                counter_range = CounterRange(_read_number(path / "max_energy_range_uj"))
            except Exception as error:
                failures[key] = error
                continue
            zones.append(RaplZone(key, _number(top.name), counter_range, path))
    return ZoneScan(zones, failures)


def _named_folders(top: Path, failures: dict[str, Exception]) -> Iterator[tuple[str, Path]]:
    """Yield the name and the folder of a zone, and of its memory where it has some. Note folders without a name."""
    name = _zone_name(top, failures)
    if not name.startswith((PACKAGE, PSYS)):
        return
    yield name, top
    if name.startswith(PACKAGE):
        for part in sorted(top.glob(f"{top.name}:*"), key=lambda path: _number(path.name)):
            if _zone_name(part, failures) == DRAM:
                yield DRAM + name.removeprefix(PACKAGE), part


def _zone_name(path: Path, failures: dict[str, Exception]) -> str:
    try:
        return printable(_read_text(path / "name"))
    except Exception as error:
        failures[path.name] = error
        return ""


def _top_folders(powercap: Path) -> list[Path]:
    """Return the folders of zones that are no part of another.

    Under /sys/class/powercap they are side by side, under /sys/devices/virtual/powercap in a folder of their own.
    """
    try:
        for folder in (powercap, powercap / "intel-rapl"):
            if tops := [p for p in folder.glob("intel-rapl:*") if p.name.count(":") == 1 and _exists(p)]:
                return tops
    except OSError as error:
        raise Unavailable(f"{powercap} cannot be read: {error}", _NO_ZONES_HINT) from None
    return []


def _exists(path: Path) -> bool:
    """Return False for a link to nothing, as in a container that hides the kernel's folder."""
    try:
        return path.exists()
    except PermissionError:
        return True


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
