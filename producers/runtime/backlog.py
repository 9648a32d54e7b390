"""Backlog of intervals that wait to be sent. It is bounded: intervals are merged instead of dropped. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from contracts.events import MAX_SPAN_MS, Method
from producers.gpu.readings import EnergyInterval, merge_intervals


class Backlog:
    """Unsent intervals of one workload, oldest first.

    It holds about `max_rows` rows at most: beyond, `coarsen` merges neighbouring rows of a GPU and keeps their joules
    exactly. No merged row is longer than MAX_SPAN_MS, so 4 rows per GPU and day always remain.
    """

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self._rows: deque[EnergyInterval] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def energy_uj(self) -> int:
        return sum(row.energy_uj for row in self._rows)

    def add(self, intervals: Iterable[EnergyInterval]) -> None:
        self._rows.extend(intervals)
        if len(self._rows) > self.max_rows:
            self.coarsen()

    def take(self, limit: int) -> list[EnergyInterval]:
        """Remove and return the oldest rows, at most `limit`."""
        return [self._rows.popleft() for _ in range(min(limit, len(self._rows)))]

    def put_back(self, intervals: list[EnergyInterval]) -> None:
        """Put back, as the oldest, rows that were removed and could not be sent."""
        self._rows.extendleft(reversed(intervals))

    def coarsen(self) -> None:
        """Merge the rows of each GPU in pairs, across gaps in time only where adjacent rows alone do not suffice."""
        for bridge in (False, True):
            self._rows = deque(sorted(_halved(self._rows, bridge), key=lambda row: (row.t1_ms, row.gpu_uuid)))
            if len(self._rows) <= self.max_rows:
                return


def _halved(rows: Iterable[EnergyInterval], bridge: bool) -> Iterable[EnergyInterval]:
    waiting: dict[str, EnergyInterval] = {}
    for row in rows:
        before = waiting.pop(row.gpu_uuid, None)
        if before is None:
            waiting[row.gpu_uuid] = row
        elif before.t1_ms <= row.t0_ms and _fits(before, row) and (bridge or before.t1_ms == row.t0_ms):
            yield merge_intervals(before, row)
        else:
            yield before
            waiting[row.gpu_uuid] = row
    yield from waiting.values()


def _fits(a: EnergyInterval, b: EnergyInterval) -> bool:
    # A correction's time is that of other rows: merged with one, it would count twice.
    is_own_time = Method.CORRECTION not in (a.method, b.method)
    return is_own_time and b.t1_ms - a.t0_ms <= MAX_SPAN_MS and a.hardware == b.hardware
