"""Clocks that a test moves (`producers.runtime.clock.Clock`; called, they are the clocks of the stream workers)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

T0 = 1_700_000_000_000
"""Default start of the wall clock, epoch ms."""


@dataclass
class FakeClock:
    """Both clocks of a process, moved only by its waits and by the test. Threads may share it.

    The monotonic clock shows `now_ms`, the wall clock `epoch_ms + now_ms`. Waits pass at once, up to `end_ms`. From
    then on, or while `stopped`, they ask the process to stop. `waits_s` are the waits so far.
    """

    end_ms: int = 1 << 62
    now_ms: int = 0
    epoch_ms: int = T0
    stopped: bool = False
    waits_s: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self) -> int:
        return self.wall_ms()

    def wall_ms(self) -> int:
        return self.epoch_ms + self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wait(self, seconds: float) -> bool:
        with self._lock:
            if seconds > 0:
                self.waits_s.append(seconds)
                self.now_ms += max(1, round(seconds * 1000))
            self.now_ms = min(self.now_ms, self.end_ms)
            return self.stopped or self.now_ms >= self.end_ms


def clock_at(t_ms: int) -> FakeClock:
    """Both clocks, fixed at `t_ms`."""
    return FakeClock(end_ms=t_ms, now_ms=t_ms, epoch_ms=0)


@dataclass(frozen=True)
class FixedWallClock:
    """The wall clock is fixed at `now_ms`. The monotonic one runs, for threads that wait by it."""

    now_ms: int

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wait(self, seconds: float) -> bool:
        return False
