"""Readings of a node's energy or power: at once, or by a thread of its own where the answer may take long."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from producers.gpu.event_time import ClockPoint
from producers.runtime.clock import Clock

Value = TypeVar("Value")
MAX_READINGS = 64
"""Readings of a thread that wait for the agent. Beyond, the oldest are left out: those after them cover the time."""
EXIT_S = 1.0


class NodeReading(NamedTuple, Generic[Value]):
    """Value, and the moment at which it was read by both clocks."""

    at: ClockPoint
    value: Value


class ReadingsSince(NamedTuple, Generic[Value]):
    """Readings since the last call, in order, and what failed meanwhile."""

    readings: Sequence[NodeReading[Value]]
    failures: Sequence[Exception] = ()


class Reader(Protocol[Value]):
    """Reader of a node. A call never raises, and returns the readings since the last one."""

    def __call__(self, clock: Clock, /) -> ReadingsSince[Value]: ...


class DirectReader(Generic[Value]):
    """Reader that reads at each call: files of the kernel."""

    def __init__(self, read: Callable[[], Value]) -> None:
        self._read = read

    def __call__(self, clock: Clock) -> ReadingsSince[Value]:
        try:
            value = self._read()
        except Exception as error:
            return ReadingsSince((), (error,))
        return ReadingsSince((NodeReading(ClockPoint(clock.monotonic_ms(), clock.wall_ms()), value),))


class BackgroundReader(Generic[Value]):
    """Reader whose thread reads every `every_s`; the first call starts it. A call never waits for it."""

    def __init__(self, read: Callable[[], Value], name: str, every_s: float) -> None:
        self._read, self._every_s = read, every_s
        self._readings = deque[NodeReading[Value]](maxlen=MAX_READINGS)
        self._failures = deque[Exception](maxlen=MAX_READINGS)
        self._stop = threading.Event()
        self._clock: Clock | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __call__(self, clock: Clock) -> ReadingsSince[Value]:
        if self._clock is None:
            self._clock = clock
            self._thread.start()
            return ReadingsSince(())
        return ReadingsSince(_drain(self._readings), _drain(self._failures))

    def close(self) -> None:
        """End the thread. One that waits for an answer ends with it."""
        self._stop.set()
        if self._clock is not None:
            self._thread.join(EXIT_S)

    def _run(self) -> None:
        assert self._clock is not None
        while not self._stop.is_set():
            try:
                value = self._read()
                at = ClockPoint(self._clock.monotonic_ms(), self._clock.wall_ms())
                self._readings.append(NodeReading(at, value))
            except Exception as error:
                self._failures.append(error)
            self._stop.wait(self._every_s)


def _drain(waiting: deque[Value]) -> list[Value]:
    """Remove and return what waits now; another thread may add more meanwhile."""
    return [waiting.popleft() for _ in range(len(waiting))]
