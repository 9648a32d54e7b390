"""The power file as a whole: what a first pass over it finds, and its readings in order, each with its device."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from pathlib import Path

from contracts.errors import BadInput
from contracts.units import rfc3339
from producers.recordings.base import BadRow, bad_row, reorder, reorder_with_times
from producers.recordings.csv.bursts import devices_by_rhythm, differ_in_turn
from producers.recordings.csv.columns import POWER_COLUMNS
from producers.recordings.csv.devices import Device, Devices, device_of
from producers.recordings.csv.parts import Part, PartScan, lanes
from producers.recordings.csv.readings import PowerReading, ReadingFile
from producers.recordings.csv_defaults import MAX_REASONS, CsvDefaults
from producers.recordings.csv_formats import refuse_other_formats
from producers.recordings.csv_times import MAX_STEP_MS, zones_of_step

MAX_READERS = 16
"""Parts of a joined file that are read side by side, to merge them. A file with more is sorted as it is read."""
_MAX_HARDWARE = 64

Placed = tuple[PowerReading, Device, bool]
"""A reading, its device, and True if its module's watts are the device's."""


class PowerFile:
    """The power file, after a first pass. Raises BadInput for a file that cannot be believed as it is."""

    def __init__(self, path: Path, defaults: CsvDefaults) -> None:
        refuse_other_formats(path, POWER_COLUMNS, ("time",), "timestamp,index,power.draw [W]")
        self.path, self._defaults = path, defaults
        self._file = ReadingFile(path, defaults)
        self._module_names: set[str] = set()
        self.names_no_hardware = not self._file.table().has("hardware")
        self._read()
        if self._file.times.begins_in_first_pass and any(_is_an_hour(*jump) for jump in self._scan.jumps):
            self._file.begins_late = True
            self._read()
        self.repeated_stamps = self._file.times.repeated_stamps
        self._refuse_if_unreadable()
        self._refuse_unnamed_gpus()
        parts = self._scan.parts
        self._is_joined = len(parts) > 1 and not self._scan.is_disorder
        if self._is_joined:
            self._refuse_changed_clocks(parts)
        self._lanes = lanes(parts, self._devices) if self._is_joined else []
        self._lines = [0, *(part.line for part in parts[1:])] if self._is_joined else [0]

    def _read(self) -> None:
        """Read the file once, and gather its devices and parts."""
        self._devices = Devices(self._defaults.gpu)
        self._scan = PartScan(self._devices)
        self._headers, self._bad_rows = 0, 0
        self._reasons: list[BadRow] = []
        self._unnamed_hardware: set[str] = set()
        for item in self._file:
            if isinstance(item, BadRow):
                self._bad_rows += 1
                if len(self._reasons) < MAX_REASONS:
                    self._reasons.append(item)
                continue
            self._headers = max(self._headers, item.section)
            if not any(item.identity) and len(self._unnamed_hardware) < _MAX_HARDWARE:
                self._unnamed_hardware.add(item.hardware)
            self._scan.add(item)
        self._devices.settle()

    @property
    def rows(self) -> int:
        """Rows that can be read."""
        return self._scan.rows

    @property
    def reasons(self) -> str:
        """Reasons why the first unreadable rows are refused, "" where all can be read."""
        return "; ".join(str(row) for row in self._reasons)

    def _refuse_if_unreadable(self) -> None:
        if self._bad_rows and not self.rows:
            raise BadInput("power", self.path.name, f"none of its {self._bad_rows} rows can be read: {self.reasons}")

    def _refuse_unnamed_gpus(self) -> None:
        """Raise BadInput where one name, or none, stands for several GPUs."""
        fix = "name index or uuid (nvidia-smi --query-gpu=timestamp,index,uuid,...)"
        for device, rows in self._scan.rhythm.items():
            rows = sorted(rows, key=itemgetter(0)) if self._scan.is_disorder else _ascending(rows)
            count = devices_by_rhythm([t_ms for t_ms, _ in rows])
            if count > 1 and device[1] and differ_in_turn([value for _, value in rows], count):
                fix = "name their nodes in a column node, or replay each node's file with --node"
                raise BadInput("gpu", device[1], f"{self.path.name} looks like {count} GPUs of this name: {fix}")
            if count > 1 and not device[1]:
                raise BadInput("gpu", self.path.name, f"looks like {count} GPUs that no column tells apart: {fix}")
        if len(self._unnamed_hardware) > 1 and not self._devices.count:
            names = ", ".join(sorted(self._unnamed_hardware))
            count = len(self._unnamed_hardware)
            raise BadInput("gpu", self.path.name, f"looks like {count} GPUs ({names}) in one column: {fix}")

    def _refuse_changed_clocks(self, parts: list[Part]) -> None:
        """Raise BadInput where local times go back as clocks do in autumn, and no zone is named."""
        for part in parts[1:]:
            before, first = part.before, part.first
            if self._defaults.timezone or before is None or not first.is_local:
                continue
            zones = zones_of_step(first.key_ms + self._defaults.zone_ms, first.key_ms - before.key_ms)
            if zones:
                minutes = round((before.key_ms - first.key_ms) / 60_000)
                raise BadInput(
                    "timezone", self._defaults.timezone or "none",
                    f"{self.path.name}, line {part.line}: times go back {minutes} minutes, as clocks do then in "
                    f"{zones[0]}: name the zone (--timezone {zones[0]}); if these are the rows of another node, replay "
                    "them from a file of their own with --node",
                )  # fmt: skip

    def placed(self) -> Iterator[Placed | BadRow]:
        """Yield the readings in order of time, each with its device, and reports of bad rows in between."""
        if not self._is_joined or len(self._lines) > MAX_READERS:
            yield from map(self._place, reorder(self._file))
            return
        ends = [*self._lines[1:], 2**63]
        parts = (reorder_with_times(self._part(a, b)) for a, b in zip(self._lines, ends, strict=True))
        for _, item in merge(*parts, key=lambda timed: timed[0]):
            yield self._place(item)

    def _part(self, first_line: int, end_line: int) -> Iterator[PowerReading | BadRow]:
        for item in ReadingFile(self.path, self._defaults, begins_late=self._file.begins_late):
            if item.line >= end_line:
                return
            if item.line >= first_line:
                yield item

    def _place(self, reading: PowerReading | BadRow) -> Placed | BadRow:
        if isinstance(reading, BadRow):
            return reading
        device = self._devices.resolve(device_of(reading))
        if device is None:
            return bad_row(self.path, reading.line, "gpu", "", "names no GPU, but other rows name several")
        is_module = not self._devices.has_gpu_scope(device)
        if not is_module and reading.counter_uj is None and reading.watts is None:
            reason = "no reading of the GPU itself, of which other rows have one"
            return bad_row(self.path, reading.line, "", str(reading.module_watts), reason)
        if is_module:
            self._module_names.add(device[1])
        if self._lanes:
            part = bisect_right(self._lines, reading.line) - 1
            lane = self._lanes[part].get(device, 0)
            if lane:
                device = (f"{device[0]}-{lane + 1}", device[1])
        return reading, device, is_module

    def notes(self) -> Iterator[str]:
        """Yield what is unusual of the file, for its user. Call it behind a pass of `placed`."""
        name = self.path.name
        if not self._devices.count and self.rows:
            yield f"{name} names no GPU: all its readings are taken as those of one, {self._defaults.gpu}."
        elif self._devices.rows_without_name:
            yield f"{name}: {self._devices.rows_without_name} rows name no GPU; the others do."
        if self._module_names:
            gpus = ", ".join(sorted(self._module_names)[:8])
            yield f"{gpus}: the watts are those of the module (on Grace Hopper with its CPU), not of the GPU alone."
        if self._headers:
            yield f"{name} is joined of {self._headers + 1} files: its header is there {self._headers + 1} times."
        if self.repeated_stamps:
            yield (
                f"{name}: {self.repeated_stamps} times are of an hour that occurs twice in {self._defaults.timezone}; "
                "the order of the rows says which is meant."
            )
        yield from self._notes_of_steps()

    def _notes_of_steps(self) -> Iterator[str]:
        name, parts = self.path.name, self._scan.parts
        if self._scan.rows_back and not self._is_joined:
            yield f"{name} is out of order in {self._scan.rows_back} places: its rows are sorted by time."
        if self._is_joined:
            for part, lane_of in zip(parts[1:], self._lanes[1:], strict=True):
                back_s = ((part.before or part.first).key_ms - part.first.key_ms) / 1000
                step = f"{name}, line {part.line}: times go back {back_s:,.3f} s to {rfc3339(part.first.key_ms)}"
                lane = max(lane_of.values(), default=0)
                if lane:
                    yield f"{step}: taken as the rows of another node, {parts[0].first.node}-{lane + 1}."
                elif any(span.again for span in part.spans.values()):
                    again = sum(span.again for span in part.spans.values())
                    yield f"{step}: {again} readings are there twice and count once."
                else:
                    yield f"{step}: the rows are sorted by time."
        for before, after in self._scan.jumps:
            if not after.is_local or self._defaults.timezone:
                continue
            local_ms = after.key_ms + self._defaults.zone_ms
            zones = zones_of_step(local_ms - 1_800_000, after.key_ms - before.key_ms)
            if zones:
                yield (
                    f"{name}, line {after.line}: local times leap ahead as clocks do then in {zones[0]}: if so, "
                    f"name the zone (--timezone {zones[0]})."
                )
                return


def _is_an_hour(before: PowerReading, after: PowerReading) -> bool:
    """Return True if a step is an hour and a bit, as where the reading before it is taken an hour too early."""
    return 0 <= after.key_ms - before.key_ms - 3_600_000 <= MAX_STEP_MS


def _ascending(rows: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return times and values up to the first time that goes back."""
    return rows[: next((i for i in range(1, len(rows)) if rows[i][0] < rows[i - 1][0]), len(rows))]
