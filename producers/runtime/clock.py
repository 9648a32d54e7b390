"""Clocks, injected so that tests decide the time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Wall (UTC epoch) and monotonic time in ms, and a wait that ends early, with True, when it is time to stop."""

    def wall_ms(self) -> int: ...
    def monotonic_ms(self) -> int: ...
    def wait(self, seconds: float) -> bool: ...


class SystemClock:
    """The machine's clocks; `stop` ends a wait."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def wait(self, seconds: float) -> bool:
        return self._stop.wait(max(0.0, seconds))


def boot_id() -> str:
    """Names this run of the machine (Linux, proc(5)); "" where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
