"""Readings of one GPU to intervals. Pure: a state and a reading in, a state and intervals out; no clock, no I/O.

Energy, in exact integer microjoules, best evidence first:

* COUNTER: the difference of two readings of the device's own energy counter (mJ), however far apart: what lies between
  them (missed readings, errors, a stopped agent) cannot lose a joule, and the sampling rate cannot change the sum.
* INTEGRATED: the trapezoid rule over watts, for a GPU without a counter. Watts are rounded to whole milliwatts once
  (NVML's own unit); then (mW0 + mW1) * ms is exact in half microjoules, and the odd half is carried into the next
  interval, so rounding never drifts. Watts are not integrated over more than `max_gap_ms`: such a gap is counted, and
  no energy is invented in it.
* ESTIMATED: the same trapezoid where the counter went backwards (the driver was reloaded: a new epoch) or leapt by
  more than any GPU can use. Where watts are missing too, that stretch is a gap.

A counter that stays silent for `max_gap_ms` while watts are read is given up (the watts so far become an interval) and
taken up again when it returns. Unsupported is None, never 0.

Time: durations come from the monotonic clock. Event times come from the wall clock but never overlap: when it steps
forward, the interval keeps its true length and a hole is left before it; when it steps back, event time goes on
at half speed until the wall clock has caught up. A step back of more than MAX_SLEW_MS (a clock that was set wrong, so
that its events were refused as from the future) starts event time afresh, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from contracts.events import MAX_SPAN_MS, Method
from contracts.units import UJ_PER_MJ

MAX_WATTS = 20_000
"""More than any device draws (a rack-scale GB200 superchip is at 2,700 W): a counter that grew faster has leapt."""
COUNTER_GRAIN_MS = 1_000
"""Counters move in steps (NVML's about every 100 ms), so a short interval may hold a step that began before it."""
MAX_SLEW_MS = 60_000
MAX_GAP_MS = 10_000


@dataclass(slots=True, frozen=True)
class GpuReading:
    """One raw look at a device. `counter_mj` counts millijoules, `utilisation` a ratio of 0 to 1; None: unknown."""

    gpu_uuid: str
    hardware: str
    t_ms: int
    monotonic_ms: int
    counter_mj: int | None = None
    watts: float | None = None
    utilisation: float | None = None


@dataclass(slots=True, frozen=True)
class EnergyInterval:
    """Energy of one GPU over the half-open `[t0_ms, t1_ms)`. `busy_ms` is utilisation x duration, -1 if unknown."""

    gpu_uuid: str
    hardware: str
    t0_ms: int
    t1_ms: int
    energy_uj: int
    method: Method
    busy_ms: int = -1


@dataclass(slots=True, frozen=True)
class ClockPoint:
    """A moment on both clocks: the monotonic one, and event time."""

    monotonic_ms: int
    event_ms: int


@dataclass(slots=True, frozen=True)
class MeterState:
    """What must be known of one GPU between two readings.

    `mark` is where the last interval ended, or where counting began; `counter_mj` the counter there.
    `run_*` is an unbroken stretch of watts since then: its ends, and its energy in half microjoules.
    """

    last: ClockPoint
    mark: ClockPoint
    counter_mj: int | None
    run_from: ClockPoint | None
    run_to: ClockPoint | None
    run_mw: int
    run_half_uj: int
    busy: float | None = 0.0


@dataclass(slots=True, frozen=True)
class IntervalResult:
    """What one reading brought: the new state, the intervals that it completed, and what was odd about it."""

    state: MeterState
    intervals: tuple[EnergyInterval, ...] = ()
    resets: int = 0
    gaps: int = 0
    clock_steps: int = 0


def add_reading(state: MeterState | None, reading: GpuReading, *, max_gap_ms: int = MAX_GAP_MS) -> IntervalResult:
    """Takes one reading of one GPU. The first one only begins; a reading that is not later than the last is ignored."""
    counter, mw = _counter(reading.counter_mj), _milliwatts(reading.watts)
    if state is None:
        now = ClockPoint(reading.monotonic_ms, reading.t_ms)
        run = now if mw is not None else None
        return IntervalResult(MeterState(now, now, counter, run, run, mw or 0, 0))
    elapsed = reading.monotonic_ms - state.last.monotonic_ms
    if elapsed <= 0:
        return IntervalResult(state)
    now, stepped = next_event_time(state.last, ClockPoint(reading.monotonic_ms, reading.t_ms))
    state, broke = _extend_run(state, now, mw, max_gap_ms)
    begins = state.counter_mj is None and state.run_from is now  # what was busy before it belongs to no interval
    state = replace(state, last=now, busy=0.0 if begins else _busy(state.busy, reading.utilisation, elapsed))
    took = _by_counter(state, reading, counter, now) if state.counter_mj is not None else None
    if took is None and (state.counter_mj is None or _silent(state, max_gap_ms)):
        took = _by_watts(state, reading, counter, now, Method.INTEGRATED)
        # With a counter the broken run of watts costs nothing; without one it is energy that nobody saw.
        took = replace(took, gaps=took.gaps + (broke and state.counter_mj is None))
    if took is None:
        return IntervalResult(state, clock_steps=stepped)
    return replace(took, clock_steps=stepped)


def merge_intervals(a: EnergyInterval, b: EnergyInterval) -> EnergyInterval:
    """Two intervals of one GPU, `a` before `b`, as one: joules are kept exactly, the worse method is shown. Energy
    across a hole between them is nobody's measurement, so such a merger is ESTIMATED."""
    method = max(a.method, b.method) if a.t1_ms == b.t0_ms else Method.ESTIMATED
    busy = a.busy_ms + b.busy_ms if a.busy_ms >= 0 and b.busy_ms >= 0 else -1
    return EnergyInterval(a.gpu_uuid, a.hardware, a.t0_ms, b.t1_ms, a.energy_uj + b.energy_uj, method, busy)


def split_interval(interval: EnergyInterval, max_span_ms: int = MAX_SPAN_MS) -> Iterator[EnergyInterval]:
    """An interval in parts of at most `max_span_ms`, whose energy and busy time sum to the whole exactly."""
    span = interval.t1_ms - interval.t0_ms
    energy, busy = interval.energy_uj, interval.busy_ms
    for start in range(0, span, max_span_ms):
        end = min(start + max_span_ms, span)
        yield replace(
            interval,
            t0_ms=interval.t0_ms + start,
            t1_ms=interval.t0_ms + end,
            energy_uj=energy * end // span - energy * start // span,
            busy_ms=busy * end // span - busy * start // span if busy >= 0 else -1,
        )


def _by_counter(state: MeterState, reading: GpuReading, counter: int | None, now: ClockPoint) -> IntervalResult | None:
    """The interval from the mark to this reading, or None where the counter is silent."""
    if counter is None or state.counter_mj is None:
        return None
    delta = counter - state.counter_mj
    elapsed = now.monotonic_ms - state.mark.monotonic_ms
    if not 0 <= delta <= MAX_WATTS * (elapsed + COUNTER_GRAIN_MS):  # W x ms = mJ
        took = _by_watts(state, reading, counter, now, Method.ESTIMATED)
        return replace(took, resets=1)
    done = _interval(state, reading, state.mark, now, delta * UJ_PER_MJ, Method.COUNTER)
    return IntervalResult(_restart(state, counter, now, half_uj=0), done)


def _by_watts(
    state: MeterState, reading: GpuReading, counter: int | None, now: ClockPoint, method: Method
) -> IntervalResult:
    """The run of watts since the mark as one interval. What of that time it does not cover is a gap."""
    begin, end = state.run_from, state.run_to
    if begin is None or end is None or end.monotonic_ms == begin.monotonic_ms:
        lost = method is Method.ESTIMATED
        if counter is None and not lost:
            return IntervalResult(state)
        return IntervalResult(_restart(state, counter, now, half_uj=state.run_half_uj), gaps=int(lost))
    done = _interval(state, reading, begin, end, state.run_half_uj // 2, method)
    covered = end.monotonic_ms - begin.monotonic_ms
    mark = now if counter is not None else end
    missed = state.counter_mj is not None and covered < mark.monotonic_ms - state.mark.monotonic_ms
    return IntervalResult(_restart(state, counter, mark, half_uj=state.run_half_uj % 2), done, gaps=int(missed))


def _interval(
    state: MeterState, reading: GpuReading, begin: ClockPoint, end: ClockPoint, energy_uj: int, method: Method
) -> tuple[EnergyInterval, ...]:
    """An interval that ends at `end`, no longer than the time that truly passed, and after the one before it."""
    t0_ms, t1_ms = interval_start_ms(begin, end), end.event_ms
    busy = -1 if state.busy is None else min(round(state.busy), t1_ms - t0_ms)
    return tuple(
        split_interval(EnergyInterval(reading.gpu_uuid, reading.hardware, t0_ms, t1_ms, energy_uj, method, busy))
    )


def _restart(state: MeterState, counter: int | None, mark: ClockPoint, *, half_uj: int) -> MeterState:
    """The state after an interval that ended at `mark`. The run of watts goes on from there where watts were read
    there, with the carried half microjoule; else the next watts begin a new one, so that nothing is counted twice."""
    goes_on = state.run_to is not None and state.run_to.monotonic_ms == mark.monotonic_ms
    run = state.run_to if goes_on else None
    return replace(state, mark=mark, counter_mj=counter, run_from=run, run_to=run, run_half_uj=half_uj, busy=0.0)


def _extend_run(state: MeterState, now: ClockPoint, mw: int | None, max_gap_ms: int) -> tuple[MeterState, bool]:
    """Adds the trapezoid up to a reading with watts; starts a new run, and says so, after too long without."""
    if mw is None:
        return state, False
    if state.run_from is None or state.run_to is None:
        return replace(state, run_from=now, run_to=now, run_mw=mw), False
    elapsed = now.monotonic_ms - state.run_to.monotonic_ms
    if elapsed > max_gap_ms:
        return replace(state, run_from=now, run_to=now, run_mw=mw, run_half_uj=state.run_half_uj % 2), True
    area = (state.run_mw + mw) * elapsed  # mW x ms = uJ, and the trapezoid's half is left to the end
    return replace(state, run_to=now, run_mw=mw, run_half_uj=state.run_half_uj + area), False


def _silent(state: MeterState, max_gap_ms: int) -> bool:
    """The counter gave nothing for too long, while watts were read."""
    if state.run_from is None or state.run_to is None:
        return False
    return state.run_to.monotonic_ms - state.run_from.monotonic_ms > max_gap_ms


def next_event_time(last: ClockPoint, now: ClockPoint) -> tuple[ClockPoint, bool]:
    """A later moment (the monotonic and the wall clock's time of it) in event time, which never overlaps: see the
    module. And whether event time starts afresh there."""
    if last.event_ms - now.event_ms > MAX_SLEW_MS:
        return now, True
    elapsed_ms = now.monotonic_ms - last.monotonic_ms
    return ClockPoint(now.monotonic_ms, max(now.event_ms, last.event_ms + max(1, elapsed_ms // 2))), False


def interval_start_ms(begin: ClockPoint, end: ClockPoint) -> int:
    """When what lasted from `begin` to `end` began in event time: no longer ago than the time that truly passed, and
    not before what came before it."""
    t0_ms = end.event_ms - (end.monotonic_ms - begin.monotonic_ms)
    return max(t0_ms, begin.event_ms) if begin.event_ms < end.event_ms else t0_ms


def _busy(busy: float | None, utilisation: float | None, elapsed_ms: int) -> float | None:
    if busy is None or utilisation is None or not 0 <= utilisation <= 1:
        return None
    return busy + utilisation * elapsed_ms


def _counter(counter_mj: int | None) -> int | None:
    return counter_mj if counter_mj is not None and counter_mj >= 0 else None


def _milliwatts(watts: float | None) -> int | None:
    """Whole milliwatts, or None for what is no reading: absent, NaN, infinite, negative, beyond MAX_WATTS."""
    if watts is None or not math.isfinite(watts) or not 0 <= watts <= MAX_WATTS:
        return None
    return round(watts * 1000)
