"""Places for questions in SQL: few at a time, because each may take a process of its own with gigabytes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class SqlPlaces:
    """Counts running questions: at most `per_caller` of one caller, and `total` of all. Threads may share it."""

    def __init__(self, *, per_caller: int = 1, total: int = 2) -> None:
        self._per_caller, self._total = per_caller, total
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @contextmanager
    def place(self, caller: str) -> Iterator[bool]:
        """Take a place for the block. Yields False if there is none: ask again later."""
        with self._lock:
            is_free = self._running[caller] < self._per_caller and self._running.total() < self._total
            if is_free:
                self._running[caller] += 1
        try:
            yield is_free
        finally:
            if is_free:
                with self._lock:
                    self._running[caller] -= 1
                    self._running += Counter()  # drops callers without questions
