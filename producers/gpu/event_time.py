"""Event time of a GPU's readings: durations by the monotonic clock, never running backwards. Pure.

Event times are those of the wall clock, but intervals never overlap:

* When the wall clock steps forward, the interval keeps its true length, and a gap is left before it.

* When it steps back, event time runs at half speed until the wall clock has caught up.

* When it steps back by more than MAX_SLEW_MS, it was set wrong before, and events were refused as from the future.
  Event time then starts afresh, and the step is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_SLEW_MS = 60_000


@dataclass(slots=True, frozen=True)
class ClockPoint:
    """A moment on both clocks: the monotonic one, and event time."""

    monotonic_ms: int
    event_ms: int


def next_event_time(last: ClockPoint, now: ClockPoint) -> tuple[ClockPoint, bool]:
    """Return `now` in event time, and True if event time starts afresh there.

    `now` is later than `last` by the monotonic clock; its `event_ms` is the wall clock. Event time never runs back but
    for a step of more than MAX_SLEW_MS: it runs at half speed until the wall clock has caught up.
    """
    if last.event_ms - now.event_ms > MAX_SLEW_MS:
        return now, True
    elapsed_ms = now.monotonic_ms - last.monotonic_ms
    return ClockPoint(now.monotonic_ms, max(now.event_ms, last.event_ms + max(1, elapsed_ms // 2))), False


def interval_start_ms(begin: ClockPoint, end: ClockPoint) -> int:
    """Return the start in event time of an interval from `begin` to `end`.

    The interval is no longer than the time that passed by the monotonic clock, and never starts before `begin`.
    """
    t0_ms = end.event_ms - (end.monotonic_ms - begin.monotonic_ms)
    return max(t0_ms, begin.event_ms) if begin.event_ms < end.event_ms else t0_ms
