"""Intervals that wait to be sent. When they cannot be, they grow coarser instead of more. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from contracts.events import MAX_SPAN_MS
from producers.gpu.intervals import EnergyInterval, merge_intervals


class Backlog:
    """The unsent intervals of one workload, oldest first.

    Holds at most about `max_rows` rows: beyond, `coarsen` merges neighbours of a GPU, whose joules are kept exactly.
    No merger is longer than MAX_SPAN_MS, so while the broker is away the floor is 4 rows per GPU and day.
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
        """The oldest rows, at most `limit`, out of the backlog."""
        return [self._rows.popleft() for _ in range(min(limit, len(self._rows)))]

    def put_back(self, intervals: list[EnergyInterval]) -> None:
        """Rows that were taken and could not be sent, again the oldest."""
        self._rows.extendleft(reversed(intervals))

    def coarsen(self) -> None:
        """Merges each GPU's rows two by two; across holes between them only where that alone does not suffice."""
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
    return b.t1_ms - a.t0_ms <= MAX_SPAN_MS and a.hardware == b.hardware
