"""HPE Cray's pm_counters: files under /sys/cray/pm_counters, such as `energy` with "12345 J 1700000000000000 us".

`energy` is the whole node (zone `node`), accelerators included. `cpu_energy`, `memory_energy` and `accel0_energy` ...
are parts of it, and must never be added to it. The blade's controller counts: its `startup` names a run of it, in which
counters begin anew, and its `freshness` moves with each scan. A reading counts if `freshness` was the same before and
after it, and another than at the last one: else the files stand, and show nothing of the time.
"""

from __future__ import annotations

import re
from pathlib import Path

from contracts.errors import Unavailable
from contracts.units import UJ_PER_J
from producers.host.energy import CounterRange
from producers.host.source import MAX_COUNTER_UJ, ZoneReadings
from producers.runtime.refusals import refusal

PM_COUNTERS = Path("/sys/cray/pm_counters")
NODE = "node"
MAX_NODE_W = 10_000.0
"""More watts than a node draws."""
ATTEMPTS = 3
"""Attempts to read all files between two scans, which are 100 ms apart."""
_ENERGY_FILE = re.compile(r"(?:(cpu|memory|accel\d{1,3})_)?energy", re.ASCII)
_ENERGY = re.compile(r"(\d{1,13}) J(?: \d{1,20} us)?", re.ASCII)
_HINT = "HPE Cray EX and XC nodes have these files. In a container, mount the folder read-only."


class PmCounters:
    """Counters of a node's pm_counters. Raises Unavailable where there are none."""

    source = "pm_counters"

    def __init__(self, folder: Path = PM_COUNTERS) -> None:
        self._folder = folder
        try:
            names = sorted(path.name for path in folder.iterdir())
        except OSError as error:
            raise Unavailable(f"{folder} cannot be read: {error}", _HINT) from None
        self._files = {match[1] or NODE: match[0] for name in names if (match := _ENERGY_FILE.fullmatch(name))}
        if not self._files:
            raise Unavailable(f"There is no energy counter in {folder}", _HINT)
        self.ranges = {zone: CounterRange(MAX_COUNTER_UJ, wraps=False) for zone in self._files}
        self.run = ""
        """`startup` of the last reading; where `freshness` went back, that too."""
        self._freshness: int | None = None
        self._suffix = ""

    def read(self) -> ZoneReadings:
        """Read every counter. Raises Unavailable if none can be read, or if the files stand."""
        for _ in range(ATTEMPTS):
            startup, freshness = self._text("startup"), self._number("freshness")
            counters_uj, errors = self._counters_uj()
            if self._number("freshness") == freshness and self._text("startup") == startup:
                break
        else:
            raise Unavailable(f"{self._folder} changes while it is read", "The next reading covers the time.")
        if freshness == self._freshness:
            raise Unavailable(
                f"{self._folder} stands: its freshness is {freshness} still", "Is the blade's controller well?"
            )
        if self._freshness is not None and freshness < self._freshness:
            self._suffix = f"/{freshness}"
        self._freshness, self.run = freshness, startup + self._suffix
        if errors and not counters_uj:
            raise next(iter(errors.values()))
        return ZoneReadings(counters_uj, {zone: refusal(error) for zone, error in errors.items()})

    def _counters_uj(self) -> tuple[dict[str, int], dict[str, Exception]]:
        counters_uj, errors = dict[str, int](), dict[str, Exception]()
        for zone, file in self._files.items():
            try:
                text = self._text(file)
                match = _ENERGY.fullmatch(text)
                if match is None:
                    raise Unavailable(f"{self._folder / file} says {text[:60]!r}", "It should be joules: 12345 J.")
                counters_uj[zone] = int(match[1]) * UJ_PER_J
            except Exception as error:
                errors[zone] = error
        return counters_uj, errors

    def _number(self, file: str) -> int:
        text = self._text(file)
        number = text.partition(" ")[0]
        if not (number.isascii() and number.isdigit() and len(number) <= 20):
            raise Unavailable(
                f"{self._folder / file} says {text[:60]!r}", "It should be a number: is that pm_counters?"
            )
        return int(number)

    def _text(self, file: str) -> str:
        path = self._folder / file
        try:
            return path.read_text("ascii").strip()
        except Exception as error:
            raise Unavailable(f"{path} cannot be read: {error}", _HINT) from None
