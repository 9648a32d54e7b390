"""Cache for costly answers: models are fitted once per state of the ledger, however many people ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

Value = TypeVar("Value")


class SingleFlightCache:
    """Thread-safe LRU cache of the `capacity` last used values.

    Threads that ask for the same key at the same time share one computation. A failure is not cached.
    """

    def __init__(self, capacity: int = 128) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._futures: OrderedDict[Hashable, Future[Any]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of `key`, computed at most once while it is cached. Raises what `compute` raises."""
        with self._lock:
            cached = self._futures.get(key)
            if cached is None:
                future = self._futures[key] = Future()
                while len(self._futures) > self._capacity:
                    self._futures.popitem(last=False)
            else:
                future = cached
                self._futures.move_to_end(key)
        if cached is None:
            self._compute(key, future, compute)
        return future.result()  # type: ignore[no-any-return]

    def _compute(self, key: Hashable, future: Future[Any], compute: Callable[[], Any]) -> None:
        try:
            future.set_result(compute())
        except BaseException as error:
            with self._lock:
                if self._futures.get(key) is future:
                    del self._futures[key]
            future.set_exception(error)
