"""CPU profiles: cProfile on the calling thread and on the storing threads, each by its own CPU time."""

from __future__ import annotations

import cProfile
import io
import pstats
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from warehouse.sink.sink import Sink

_SITE = re.compile(r".*/(?:site-packages|lib/python3\.\d+)/|.*/(?=(?:streams|contracts|warehouse|bench|cli)/)")
_LINES = 15


class Profiles:
    """Off unless `on`: then every figure taken beside it is worthless, for a profiler costs more than the work."""

    def __init__(self, on: bool) -> None:
        self._on = on
        self._main = cProfile.Profile(time.thread_time) if on else None
        self._running = False
        self._sink: list[cProfile.Profile] = []
        self._thread = 0
        """The one that is profiled already."""

    def start(self) -> None:
        if self._main is None or self._running:
            return
        self._running, self._thread = True, threading.get_ident()
        for name in ("write", "refresh_hours"):
            setattr(Sink, name, self._profiled(getattr(Sink, name)))
        self._main.enable()

    def stop(self) -> None:
        if self._main is not None:
            self._main.disable()

    def _profiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The worker stores from threads that cProfile does not see; the plain consumer from the profiled one."""

        def call(*args: Any, **more: Any) -> Any:
            if threading.get_ident() == self._thread:
                return function(*args, **more)
            profile = cProfile.Profile(time.thread_time)
            profile.enable()
            try:
                return function(*args, **more)
            finally:
                profile.disable()
                self._sink.append(profile)

        return call

    def top(self) -> list[dict[str, Any]]:
        """The functions that took longest by themselves, storing threads included."""
        if self._main is None:
            return []
        stats = pstats.Stats(self._main, stream=io.StringIO())
        for profile in self._sink:
            profile.create_stats()
            if profile.stats:
                stats.add(profile)
        rows = [
            {"function": f"{_SITE.sub('', file)}:{name}" if line else name, "calls": calls, "own_s": own}
            for (file, line, name), (_, calls, own, _, _) in stats.stats.items()  # type: ignore[attr-defined]
            if "select.epoll" not in name
        ]
        total_s = sum(r["own_s"] for r in rows)
        best = sorted(rows, key=lambda r: -r["own_s"])[:_LINES]
        return [{**r, "share": r["own_s"] / total_s} for r in best]
