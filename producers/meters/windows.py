"""Windows of time for which a query is due. Pure.

Windows are half-open and of one length, and begin at its multiples since 1970, so that every run of a producer
cuts time alike. A query runs `offset_ms` after the end of its window, because the queried data may be written
late.
"""

from __future__ import annotations

from typing import NamedTuple


class MeterWindow(NamedTuple):
    """`[t0_ms, t1_ms)`, UTC epoch ms."""

    t0_ms: int
    t1_ms: int


class MeterSchedule(NamedTuple):
    """Windows of `every_ms`, each due `offset_ms` after its end, at most `max_windows` at a time."""

    every_ms: int
    offset_ms: int
    max_windows: int = 1

    def due(self, last_ms: int | None, now_ms: int) -> tuple[list[MeterWindow], bool]:
        """Return the windows that are due, oldest first, and whether more are.

        `last_ms` is the end of the last window that was queried. If it is None, only the last window that is over is
        due. Later windows are never skipped: after a long pause they are returned `max_windows` at a time.
        """
        end = (now_ms - self.offset_ms) // self.every_ms
        first = end - 1 if last_ms is None else -(-last_ms // self.every_ms)
        count = max(end - first, 0)
        windows = [
            MeterWindow(n * self.every_ms, (n + 1) * self.every_ms)
            for n in range(first, first + min(count, self.max_windows))
        ]
        return windows, count > self.max_windows
