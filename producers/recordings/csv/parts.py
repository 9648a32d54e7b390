"""Parts of a power file: where its times go back, and whether that is disorder, a second reading or another node.

Files are joined end to end, and rows are written out of order. A part ends where the time of a device goes back. If
the rows of the next part fall between those of an earlier one, as often as theirs do, another node wrote them: its
devices are kept apart. Otherwise they are the same devices' rows, which are sorted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low

from producers.recordings.base import REORDER_ROWS
from producers.recordings.csv.devices import Device, Devices, device_of
from producers.recordings.csv.readings import PowerReading

MAX_PARTS = 256
"""Parts of a file that is joined; one with more is out of order."""
MIN_PART_ROWS = 3
"""Mean rows of a device in a part, below which the file is out of order."""
_NEW_DEVICE_BACK_MS = 60_000
"""How far before the newest time a device may appear that has no row in the part yet."""
_HOLE_STEPS = 3
_JUMP_MS = 1_800_000
_MAX_JUMPS = 64
RHYTHM_ROWS = 2_000
_RHYTHM_DEVICES = 64


@dataclass(slots=True)
class DeviceSpan:
    """Rows of one device in one part.

    Of the rows that are not after those of earlier parts: `between` fell between two rows of theirs, `again` repeat
    one of theirs.
    """

    start_ms: int
    end_ms: int
    rows: int = 0
    between: int = 0
    again: int = 0


@dataclass(slots=True)
class Part:
    """Lines from one step back to the next one."""

    line: int
    before: PowerReading | None
    """The reading of the same device before the first one, if time went back from it."""
    first: PowerReading
    spans: dict[Device, DeviceSpan] = field(default_factory=dict)


class _Recent:
    """The newest REORDER_ROWS readings, by device and time."""

    def __init__(self) -> None:
        self._order: deque[tuple[Device, int]] = deque()
        self._values: dict[Device, dict[int, object]] = defaultdict(dict)
        self.is_full = False

    def add(self, device: Device, reading: PowerReading) -> None:
        if len(self._order) >= REORDER_ROWS:
            self.is_full = True
            old, t_ms = self._order.popleft()
            self._values[old].pop(t_ms, None)
        self._order.append((device, reading.key_ms))
        self._values[device][reading.key_ms] = reading.value

    def value(self, device: Device, t_ms: int) -> object:
        return self._values[device].get(t_ms)

    def times(self, device: Device) -> list[int]:
        return sorted(self._values[device])


class PartScan:
    """Finds the parts of a file, row by row, and gathers its devices."""

    def __init__(self, devices: Devices) -> None:
        self.parts: list[Part] = []
        self.rows = 0
        self.rows_back = 0
        """Places where time goes back."""
        self.rhythm: dict[Device, list[tuple[int, float]]] = {}
        """Time and value of the first rows of each device, for `bursts`."""
        self.jumps: list[tuple[PowerReading, PowerReading]] = []
        """Readings of a device before and after half an hour or more without one."""
        self._devices = devices
        self._recent = _Recent()
        self._last: dict[Device, PowerReading] = {}
        self._in_part: dict[Device, int] = {}
        self._newest_ms: dict[Device, int] = {}
        self._earlier: dict[Device, list[int]] = {}
        self._part_newest_ms = 0

    def add(self, reading: PowerReading) -> None:
        device = device_of(reading)
        self._devices.add(reading)
        self.rows += 1
        if device in self.rhythm or len(self.rhythm) < _RHYTHM_DEVICES:
            rows = self.rhythm.setdefault(device, [])
            if len(rows) < RHYTHM_ROWS:
                rows.append((reading.key_ms, next(float(value) for value in reading.value if value is not None)))
        if not self.parts:
            self.parts.append(Part(reading.line, None, reading))
        elif self._goes_back(device, reading):
            self._begin_part(device, reading)
        if len(self.parts) <= MAX_PARTS:
            self._measure(device, reading)
        last = self._last.get(device)
        if last and reading.key_ms - last.key_ms >= _JUMP_MS and len(self.jumps) < _MAX_JUMPS:
            self.jumps.append((last, reading))
        self._last[device] = reading
        self._in_part[device] = reading.key_ms
        self._part_newest_ms = max(self._part_newest_ms, reading.key_ms)

    def _goes_back(self, device: Device, reading: PowerReading) -> bool:
        if device in self._in_part:
            return reading.key_ms < self._in_part[device]
        return reading.key_ms < self._part_newest_ms - _NEW_DEVICE_BACK_MS

    def _begin_part(self, device: Device, reading: PowerReading) -> None:
        self.rows_back += 1
        if len(self.parts) <= MAX_PARTS:
            for past, span in self.parts[-1].spans.items():
                self._newest_ms[past] = max(self._newest_ms.get(past, 0), span.end_ms)
            self.parts.append(Part(reading.line, self._last.get(device), reading))
        self._in_part, self._earlier, self._part_newest_ms = {}, {}, 0

    def _measure(self, device: Device, reading: PowerReading) -> None:
        """Count a row in its part, and compare it with earlier parts."""
        t_ms = reading.key_ms
        spans = self.parts[-1].spans
        span = spans.get(device)
        if span is None:
            span = spans[device] = DeviceSpan(t_ms, t_ms)
        span.end_ms = max(span.end_ms, t_ms)
        span.rows += 1
        if t_ms <= self._newest_ms.get(device, -1):
            if self._recent.value(device, t_ms) == reading.value:
                span.again += 1
            else:
                span.between += self._is_between(device, t_ms)
        else:
            self._recent.add(device, reading)

    def _is_between(self, device: Device, t_ms: int) -> bool:
        """Return True if a time lies between two readings of earlier parts that are no further apart than usual."""
        times = self._earlier.get(device)
        if times is None:
            times = self._earlier[device] = self._recent.times(device)
        at = bisect_right(times, t_ms)
        if at == 0:  # Before all that is remembered: rows of the earlier parts may have been there.
            return self._recent.is_full
        if times[at - 1] == t_ms:
            return True
        if at == len(times):
            return False
        usual_ms = median_low([b - a for a, b in pairwise(times[-50:])] or [0])
        return times[at] - times[at - 1] <= _HOLE_STEPS * usual_ms

    @property
    def is_disorder(self) -> bool:
        """Return True if the file's rows go back so often that it was not joined, but is out of order."""
        if len(self.parts) > MAX_PARTS:
            return True
        if all(part.before is None or part.before.section != part.first.section for part in self.parts):
            return False
        return self.rows < MIN_PART_ROWS * sum(len(part.spans) for part in self.parts)


def lanes(parts: Iterable[Part], devices: Devices) -> list[dict[Device, int]]:
    """Return for each part the lane of each of its devices: 0 for the device itself, 1 and on for other nodes' devices
    of the same name.
    """
    in_lanes: dict[Device, list[list[DeviceSpan]]] = defaultdict(list)
    lanes_of_parts = []
    for part in parts:
        lane_of: dict[Device, int] = {}
        for raw, span in part.spans.items():
            device = devices.resolve(raw)
            if device is None:
                continue
            spans = in_lanes[device]
            lane = 0
            if _is_of_another_node(span, spans):
                lane = next((i for i, lane_spans in enumerate(spans) if not _overlap(span, lane_spans)), len(spans))
            if lane == len(spans):
                spans.append([])
            spans[lane].append(span)
            lane_of[device] = lane
        lanes_of_parts.append(lane_of)
    return lanes_of_parts


def _is_of_another_node(span: DeviceSpan, earlier: list[list[DeviceSpan]]) -> bool:
    """Return True if most rows that are not new lie between others, over half of the shorter of two spans or more."""
    if span.between < 2 or span.between < span.again:
        return False
    return any(_overlap(span, [other]) for lane in earlier for other in lane)


def _overlap(span: DeviceSpan, others: list[DeviceSpan]) -> bool:
    """Return True if two spans have half of the shorter one in common."""
    for other in others:
        common_ms = min(span.end_ms, other.end_ms) - max(span.start_ms, other.start_ms)
        if common_ms > 0 and 2 * common_ms >= min(span.end_ms - span.start_ms, other.end_ms - other.start_ms):
            return True
    return False
