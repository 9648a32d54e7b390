"""Clocks, which are injected so that tests decide the time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Wall time (UTC epoch) and monotonic time in ms. `wait` ends early and returns True when it is time to stop."""

    def wall_ms(self) -> int: ...
    def monotonic_ms(self) -> int: ...
    def wait(self, seconds: float) -> bool: ...


class SystemClock:
    """Clocks of the machine; `stop` ends a wait."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wait(self, seconds: float) -> bool:
        return self._stop.wait(max(0.0, seconds))


def boot_id() -> str:
    """Return the identifier of this boot of the machine (Linux, proc(5)); "" where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
