"""Log of a trouble that repeats, such as a broker that is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

PERIOD_S = 60.0


class RareLog:
    """Logs the first line at once, then one in `PERIOD_S` at most, with the number of those that were not logged."""

    def __init__(self, log: logging.Logger, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._log, self._monotonic_s = log, monotonic_s
        self._next_s: float | None = None
        self._unlogged = 0

    def write(self, level: int, text: str) -> bool:
        """Log a line, or count it. Return whether it was logged."""
        now_s = self._monotonic_s()
        if self._next_s is not None and now_s < self._next_s:
            self._unlogged += 1
            return False
        self._log.log(level, "%s%s", text, f" ({self._unlogged:,} more before it)" if self._unlogged else "")
        self._next_s, self._unlogged = now_s + PERIOD_S, 0
        return True
