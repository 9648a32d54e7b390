"""Which stretches of time a question is due for. Pure.

Windows are half-open, of one length, and begin at multiples of it since 1970, so that every run of a producer cuts
time alike. A window is asked for once it has been over for `offset_ms`: what it is asked of may be written late.
"""

from __future__ import annotations

from typing import NamedTuple


class MeterWindow(NamedTuple):
    """`[t0_ms, t1_ms)`, UTC epoch ms."""

    t0_ms: int
    t1_ms: int


class MeterSchedule(NamedTuple):
    """Windows of `every_ms`, each due `offset_ms` after its end; at most `most` at a time."""

    every_ms: int
    offset_ms: int
    most: int = 20

    def due(self, done_ms: int | None, now_ms: int) -> tuple[list[MeterWindow], bool]:
        """The windows after `done_ms` (the end of the last one that was answered) that are due, oldest first; and
        whether more are. None, the first time: only the last one that is over. Later windows are never skipped: after a
        long pause they come `most` at a time."""
        last = (now_ms - self.offset_ms) // self.every_ms
        first = last - 1 if done_ms is None else -(-done_ms // self.every_ms)
        count = max(last - first, 0)
        found = [
            MeterWindow(n * self.every_ms, (n + 1) * self.every_ms) for n in range(first, first + min(count, self.most))
        ]
        return found, count > self.most
