"""State machine that turns the readings of one GPU into energy intervals. Pure: no clock, no I/O.

Energy is in exact integer microjoules. The best evidence that is available is used:

* COUNTER: the difference of two readings of the device's own energy counter (mJ), however far apart they are. Missed
  readings, errors and a stopped agent lose no joule, and the sampling rate does not change the sum.
* INTEGRATED: the trapezoid rule over watts, for a GPU without a counter. Watts are rounded once to whole milliwatts
  (NVML's own unit). Then (mW0 + mW1) * ms is exact in half microjoules, and an odd half is carried into the next
  interval, so rounding never drifts. A stretch of more than `max_gap_ms` without watts is a gap: it is
  counted, and no energy is invented in it.

* ESTIMATED: the same trapezoid where the counter went backwards (the driver was reloaded) or leapt by more than any GPU
  can use. Where watts are missing too, that stretch is a gap.

A counter that is silent for `max_gap_ms` while watts are read is given up: the watts so far become an interval. The
counter is used again when it returns. An unsupported value is None, never 0.

Durations are measured by the monotonic clock. Event times are those of the wall clock, but intervals never overlap:

* When the wall clock steps forward, the interval keeps its true length, and a gap is left before it.

* When it steps back, event time runs at half speed until the wall clock has caught up.

* When it steps back by more than MAX_SLEW_MS, it was set wrong before, and events were refused as from the future.
  Event time then starts afresh, and the step is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from contracts.events import MAX_SPAN_MS, Method
from contracts.units import UJ_PER_MJ
from producers.runtime.refusals import shorten

MAX_WATTS = 20_000
"""More than any device draws (a rack-scale GB200 superchip draws 2,700 W). A counter that grew faster has leapt."""
COUNTER_GRAIN_MS = 1_000
"""Counters advance in steps (NVML's about every 100 ms), so a short interval may contain a step that began before."""
MAX_COUNTER_MJ = 2**63 - 1
MAX_SLEW_MS = 60_000
MAX_GAP_MS = 10_000


@dataclass(slots=True, frozen=True)
class GpuReading:
    """One raw reading of a GPU. `counter_mj` is in millijoules, `utilisation` a ratio from 0 to 1; None is unknown."""

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


class MeterState(msgspec.Struct, frozen=True):
    """State of one GPU's meter between two readings. Stored with the agent's checkpoint.

    `anchor` is where the last interval ended, or where counting began; `counter_mj` is the counter at the anchor.
    `run_*` is an unbroken run of watts since then: its ends, the milliwatts at its end, and its energy in half
    microjoules. `busy` is the utilisation x ms since the anchor, None if unknown.
    """

    last: ClockPoint
    anchor: ClockPoint = msgspec.field(name="mark")  # the name in stored checkpoints
    counter_mj: int | None
    run_from: ClockPoint | None
    run_to: ClockPoint | None
    run_mw: int
    run_half_uj: int
    busy: float | None = 0.0


@dataclass(slots=True, frozen=True)
class IntervalResult:
    """New state of a meter, the intervals that a reading completed, and counts of what went wrong.

    `resets` counts counters that went back or leapt, `gaps` stretches that nothing measured, and `clock_steps` wall
    clocks that were set back by more than MAX_SLEW_MS.
    """

    state: MeterState
    intervals: tuple[EnergyInterval, ...] = ()
    resets: int = 0
    gaps: int = 0
    clock_steps: int = 0


def add_reading(state: MeterState | None, reading: GpuReading, *, max_gap_ms: int = MAX_GAP_MS) -> IntervalResult:
    """Advance the meter of one GPU by a reading.

    The first reading (`state` None) only begins. A reading that is not later than the last one is ignored.
    """
    counter, mw = _valid_counter(reading.counter_mj), _milliwatts(reading.watts)
    if state is None:
        now = ClockPoint(reading.monotonic_ms, reading.t_ms)
        run = now if mw is not None else None
        return IntervalResult(
            MeterState(
                last=now, anchor=now, counter_mj=counter, run_from=run, run_to=run, run_mw=mw or 0, run_half_uj=0
            )
        )
    elapsed_ms = reading.monotonic_ms - state.last.monotonic_ms
    if elapsed_ms <= 0:
        return IntervalResult(state)
    now, clock_stepped = next_event_time(state.last, ClockPoint(reading.monotonic_ms, reading.t_ms))
    state, run_broke = _extend_run(state, now, mw, max_gap_ms)
    begins = state.counter_mj is None and state.run_from is now  # earlier utilisation belongs to no interval
    busy = 0.0 if begins else _add_busy(state.busy, reading.utilisation, elapsed_ms)
    state = msgspec.structs.replace(state, last=now, busy=busy)
    result = _by_counter(state, reading, counter, now) if state.counter_mj is not None else None
    if result is None and (state.counter_mj is None or _counter_is_silent(state, max_gap_ms)):
        result = _by_watts(state, reading, counter, now, Method.INTEGRATED)
        # With a counter, a broken run of watts loses nothing. Without one, nothing measured that stretch.
        result = replace(result, gaps=result.gaps + (run_broke and state.counter_mj is None))
    if result is None:
        return IntervalResult(state, clock_steps=clock_stepped)
    return replace(result, clock_steps=clock_stepped)


def merge_intervals(a: EnergyInterval, b: EnergyInterval) -> EnergyInterval:
    """Merge two intervals of one GPU, `a` before `b`. Joules are exact, and the weaker method is kept.

    A merger across a gap between them is ESTIMATED: nothing measured the energy there.
    """
    method = max(a.method, b.method) if a.t1_ms == b.t0_ms else Method.ESTIMATED
    busy_ms = a.busy_ms + b.busy_ms if a.busy_ms >= 0 and b.busy_ms >= 0 else -1
    return EnergyInterval(
        gpu_uuid=a.gpu_uuid,
        hardware=a.hardware,
        t0_ms=a.t0_ms,
        t1_ms=b.t1_ms,
        energy_uj=a.energy_uj + b.energy_uj,
        method=method,
        busy_ms=busy_ms,
    )


def split_interval(interval: EnergyInterval, max_span_ms: int = MAX_SPAN_MS) -> Iterator[EnergyInterval]:
    """Split an interval into parts of at most `max_span_ms`. Energy and busy time of the parts sum to it exactly."""
    span_ms = interval.t1_ms - interval.t0_ms
    energy_uj, busy_ms = interval.energy_uj, interval.busy_ms
    for start in range(0, span_ms, max_span_ms):
        end = min(start + max_span_ms, span_ms)
        yield replace(
            interval,
            t0_ms=interval.t0_ms + start,
            t1_ms=interval.t0_ms + end,
            energy_uj=energy_uj * end // span_ms - energy_uj * start // span_ms,
            busy_ms=busy_ms * end // span_ms - busy_ms * start // span_ms if busy_ms >= 0 else -1,
        )


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


def _by_counter(
    state: MeterState, reading: GpuReading, counter_mj: int | None, now: ClockPoint
) -> IntervalResult | None:
    """Return the interval from the anchor to this reading, or None if the counter is silent."""
    if counter_mj is None or state.counter_mj is None:
        return None
    delta_mj = counter_mj - state.counter_mj
    elapsed_ms = now.monotonic_ms - state.anchor.monotonic_ms
    if not 0 <= delta_mj <= MAX_WATTS * (elapsed_ms + COUNTER_GRAIN_MS):  # W x ms = mJ
        return replace(_by_watts(state, reading, counter_mj, now, Method.ESTIMATED), resets=1)
    intervals = _intervals(state, reading, state.anchor, now, delta_mj * UJ_PER_MJ, Method.COUNTER)
    return IntervalResult(_restart(state, counter_mj, now, half_uj=0), intervals)


def _by_watts(
    state: MeterState, reading: GpuReading, counter_mj: int | None, now: ClockPoint, method: Method
) -> IntervalResult:
    """Return the run of watts since the anchor as an interval. Time that the run does not cover is a gap."""
    begin, end = state.run_from, state.run_to
    if begin is None or end is None or end.monotonic_ms == begin.monotonic_ms:
        is_lost = method is Method.ESTIMATED
        if counter_mj is None and not is_lost:
            return IntervalResult(state)
        return IntervalResult(_restart(state, counter_mj, now, half_uj=state.run_half_uj), gaps=int(is_lost))
    intervals = _intervals(state, reading, begin, end, state.run_half_uj // 2, method)
    covered_ms = end.monotonic_ms - begin.monotonic_ms
    anchor = now if counter_mj is not None else end
    has_gap = state.counter_mj is not None and covered_ms < anchor.monotonic_ms - state.anchor.monotonic_ms
    next_state = _restart(state, counter_mj, anchor, half_uj=state.run_half_uj % 2)
    return IntervalResult(next_state, intervals, gaps=int(has_gap))


def _intervals(
    state: MeterState, reading: GpuReading, begin: ClockPoint, end: ClockPoint, energy_uj: int, method: Method
) -> tuple[EnergyInterval, ...]:
    """Return the interval that ends at `end`, in parts that the contract allows."""
    t0_ms, t1_ms = interval_start_ms(begin, end), end.event_ms
    busy_ms = -1 if state.busy is None else min(round(state.busy), t1_ms - t0_ms)
    interval = EnergyInterval(
        gpu_uuid=reading.gpu_uuid,
        hardware=reading.hardware,
        t0_ms=t0_ms,
        t1_ms=t1_ms,
        energy_uj=energy_uj,
        method=method,
        busy_ms=busy_ms,
    )
    return tuple(split_interval(interval))


def _restart(state: MeterState, counter_mj: int | None, anchor: ClockPoint, *, half_uj: int) -> MeterState:
    """Return the state after an interval that ended at `anchor`.

    The run of watts continues from there, with the carried half microjoule, where watts were read at that moment.
    Otherwise the next watts begin a new run, so that nothing is counted twice.
    """
    continues = state.run_to is not None and state.run_to.monotonic_ms == anchor.monotonic_ms
    run = state.run_to if continues else None
    return msgspec.structs.replace(
        state, anchor=anchor, counter_mj=counter_mj, run_from=run, run_to=run, run_half_uj=half_uj, busy=0.0
    )


def _extend_run(state: MeterState, now: ClockPoint, mw: int | None, max_gap_ms: int) -> tuple[MeterState, bool]:
    """Add the trapezoid up to a reading of watts. After a gap, start a new run and return True."""
    if mw is None:
        return state, False
    if state.run_from is None or state.run_to is None:
        return msgspec.structs.replace(state, run_from=now, run_to=now, run_mw=mw), False
    elapsed_ms = now.monotonic_ms - state.run_to.monotonic_ms
    if elapsed_ms > max_gap_ms:
        half_uj = state.run_half_uj % 2
        return msgspec.structs.replace(state, run_from=now, run_to=now, run_mw=mw, run_half_uj=half_uj), True
    area = (state.run_mw + mw) * elapsed_ms  # mW x ms = uJ; the trapezoid's half is taken when the interval ends
    return msgspec.structs.replace(state, run_to=now, run_mw=mw, run_half_uj=state.run_half_uj + area), False


def _counter_is_silent(state: MeterState, max_gap_ms: int) -> bool:
    """Return True if the counter gave nothing for more than `max_gap_ms` while watts were read."""
    if state.run_from is None or state.run_to is None:
        return False
    return state.run_to.monotonic_ms - state.run_from.monotonic_ms > max_gap_ms


def _add_busy(busy: float | None, utilisation: float | None, elapsed_ms: int) -> float | None:
    if busy is None or utilisation is None or not 0 <= utilisation <= 1:
        return None
    return busy + utilisation * elapsed_ms


def implausible_value(reading: GpuReading) -> str:
    """Return what is implausible of a reading, which is taken as unknown; "" where nothing is."""
    if reading.counter_mj is not None and _valid_counter(reading.counter_mj) is None:
        return f"a counter of {shorten(reading.counter_mj)} mJ"
    if reading.watts is not None and _milliwatts(reading.watts) is None:
        return f"{shorten(reading.watts)} W"
    return ""


def _valid_counter(counter_mj: int | None) -> int | None:
    return counter_mj if counter_mj is not None and 0 <= counter_mj <= MAX_COUNTER_MJ else None


def _milliwatts(watts: float | None) -> int | None:
    """Return whole milliwatts, or None for a value that is no power: absent, NaN, negative, beyond MAX_WATTS."""
    if watts is None or not math.isfinite(watts) or not 0 <= watts <= MAX_WATTS:
        return None
    return round(watts * 1000)
