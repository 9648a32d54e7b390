"""State machine that turns the readings of one GPU into energy intervals. Pure: no clock, no I/O.

Energy is in exact integer microjoules. A reading may have the device's energy counter (mJ), its watts, both or
neither. The meter keeps these (`producers.gpu.meter_state`):

* The *base*: the last counter that was believed. Energy is the next believed counter less the base.

* The *suspect*: an implausible counter, until a second reading decides about it.

* The *former base*: the one before a reset, to which a counter comes back that only dipped.

* The *run* of watts since the last interval: their trapezoid.

* The *debt*: energy that was sent beyond what the counter shows. The next intervals are smaller by it.

| the counter of a reading | it is | what happens |
| --- | --- | --- |
| above the base, by no more than the device can use | believed | an interval up to this reading; it is the new base |
| not readable, or unchanged | open | the base stays; the next believed counter bridges the stretch |
| open for more than `max_gap_ms` | unknown, not 0 | watts are sent meanwhile; the counter's return corrects them |
| unchanged, and the watts too | stale | energy is held for up to `MAX_HOLD_MS`; then the watts are sent as they are |
| below the base, or too far above it | the suspect | it is held, like an open counter, until the next reading |
| above the suspect, by about what watts say | a reset | watts are the energy up to the suspect, which is the new base |
| above the former base, plausibly | back from a dip or a glitch | the former base counts, less what was sent since |
| 0, while watts are drawn | no counter | None |
| 0 or absent, and no watts but 0 were ever shown | no reading | a gap |

Evidence of an interval:

* COUNTER: the difference of two believed counters, however far apart. Missed readings, errors and a stopped agent lose
  no joule, and the sampling rate does not change the sum.
* INTEGRATED: the trapezoid rule over watts, where no counter can be read. Watts are rounded once to whole milliwatts
  (NVML's own unit). Then (mW0 + mW1) * ms is exact in half microjoules, and an odd half is carried into the next
  interval, so rounding never drifts. A stretch of more than `max_gap_ms` without watts is a gap: it is counted, and no
  energy is invented in it.

* ESTIMATED: the same trapezoid where a counter stood or was implausible. Also the counter's difference over a stretch
  in which it stood: it does not show when in the stretch the energy was used. And the counter's difference while it and
  the watts differ by more than a factor of two for a minute: one of the two is wrong.

* CORRECTION: what a returning counter shows beyond the energy that was sent for the stretch, spread over it. Its time
  is that of intervals that were sent before. Where more was sent than the counter shows, the next intervals are
  smaller by the difference and ESTIMATED.

`max_gap_ms` is at least three times the period in which the values are renewed (`GpuReading.period_ms`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from contracts.events import Method
from contracts.units import UJ_PER_MJ
from producers.gpu.event_time import ClockPoint, interval_start_ms, next_event_time
from producers.gpu.meter_state import (
    CounterBase,
    MeterState,
    SuspectCounter,
    add_busy,
    extend_run,
    former_after,
    former_base,
    replace_state,
    restart,
    shown_uj,
    unsent_uj,
)
from producers.gpu.plausibility import (
    COUNTER_GRAIN_MS,
    agrees,
    compare,
    is_blank,
    is_new,
    is_plausible,
    milliwatts,
    peak_w,
    run_energy_uj,
    valid_counter,
)
from producers.gpu.readings import EnergyInterval, GpuReading, split_interval

MAX_GAP_MS = 10_000
PERIODS_PER_GAP = 3
MAX_HOLD_MS = 1_800_000
"""How long energy is held where counter and watts stand. The counter's return bridges it without an estimate."""
REST_UJ = 1_000_000
"""Energy by watts below which an unchanged counter is believed: the device rests."""


@dataclass(slots=True, frozen=True)
class IntervalResult:
    """New state of a meter, the intervals that a reading completed, and counts of what went wrong.

    `resets` counts counters that started anew, `dips` implausible counters that came back in line, `gaps` stretches
    that nothing measured, and `clock_steps` wall clocks that were set back by more than MAX_SLEW_MS. `differences`
    counts minutes in which counter and watts differed.
    """

    state: MeterState
    intervals: tuple[EnergyInterval, ...] = ()
    resets: int = 0
    dips: int = 0
    gaps: int = 0
    clock_steps: int = 0
    differences: int = 0


def add_reading(state: MeterState | None, reading: GpuReading, *, max_gap_ms: int = MAX_GAP_MS) -> IntervalResult:
    """Advance the meter of one GPU by a reading.

    The first reading (`state` None) only begins. A reading that is not later than the last one is ignored.
    """
    mw = None if is_blank(reading, state.peak_mw if state else 0) else milliwatts(reading.watts)
    counter_mj = valid_counter(reading.counter_mj, mw)
    if state is None:
        now = ClockPoint(reading.monotonic_ms, reading.t_ms)
        run = now if mw is not None else None
        return IntervalResult(
            MeterState(
                last=now, anchor=now, counter_mj=counter_mj, run_from=run, run_to=run, run_mw=mw or 0, run_half_uj=0,
                peak_mw=mw or 0, watts_at=now if mw is not None else None,
            )
        )  # fmt: skip
    elapsed_ms = reading.monotonic_ms - state.last.monotonic_ms
    if elapsed_ms <= 0:
        return IntervalResult(state)
    now, clock_stepped = next_event_time(state.last, ClockPoint(reading.monotonic_ms, reading.t_ms))
    max_gap_ms = max(max_gap_ms, PERIODS_PER_GAP * reading.period_ms)
    before_mw = state.run_mw
    state, run_broke = extend_run(state, now, mw, max_gap_ms)
    begins = state.counter_mj is None and state.run_from is now  # earlier utilisation belongs to no interval
    busy = 0.0 if begins else add_busy(state.busy, reading.utilisation, elapsed_ms)
    has_moved = mw is not None and mw != before_mw
    state = replace_state(
        state, last=now, busy=busy, peak_mw=max(state.peak_mw, mw or 0), watts_at=now if has_moved else state.watts_at
    )
    if state.counter_mj is None:
        result = _without_base(state, reading, counter_mj, now)
        # With a counter, a broken run of watts loses nothing. Without one, nothing measured that stretch.
        gaps = int(run_broke)
    else:
        result, gaps = _with_base(state, reading, counter_mj, now, max_gap_ms), 0
    return replace(result, gaps=result.gaps + gaps, clock_steps=int(clock_stepped))


def send_open(state: MeterState, reading: GpuReading, *, max_gap_ms: int = MAX_GAP_MS) -> IntervalResult:
    """Send the watts of a stretch in which the counter has been open for more than `max_gap_ms`.

    For the end of readings, of which `reading` was the last: what the meter holds would otherwise wait for a next one.
    """
    if state.counter_mj is None:
        return IntervalResult(state)
    method = Method.INTEGRATED if state.stands_to is None and state.suspect is None else Method.ESTIMATED
    return _send_watts(state, reading, state.last, max_gap_ms, method, max_hold_ms=0)


def _method_of_watts(reading: GpuReading) -> Method:
    """Return the evidence of watts: a counter at 0 is one that failed, not a device without one."""
    return Method.ESTIMATED if reading.counter_mj == 0 else Method.INTEGRATED


def _without_base(state: MeterState, reading: GpuReading, counter_mj: int | None, now: ClockPoint) -> IntervalResult:
    """Send the watts since the anchor, and begin with the counter if there is one."""
    begin, end = state.run_from, state.run_to
    if begin is None or end is None or end.monotonic_ms == begin.monotonic_ms:
        if counter_mj is None:
            return IntervalResult(state)
        return IntervalResult(restart(state, now, half_uj=state.run_half_uj, counter_mj=counter_mj))
    intervals = _intervals(state, reading, begin, end, state.run_half_uj // 2, _method_of_watts(reading))
    anchor = now if counter_mj is not None else end
    return IntervalResult(restart(state, anchor, half_uj=state.run_half_uj % 2, counter_mj=counter_mj), intervals)


def _with_base(
    state: MeterState, reading: GpuReading, counter_mj: int | None, now: ClockPoint, max_gap_ms: int
) -> IntervalResult:
    """Judge the counter by the base: see the module."""
    base = state.base
    assert base is not None
    if counter_mj is None:
        return _send_watts(state, reading, now, max_gap_ms, _method_of_watts(reading))
    former = former_base(state)
    if former and counter_mj == former.counter_mj != base.counter_mj:  # It stands where it stood before it dipped.
        base = former
        state = replace_state(
            state, counter_mj=counter_mj, base_at=former.at, sent_uj=former.sent_uj, former=None, suspect=None
        )
    if counter_mj == base.counter_mj:
        state = replace_state(state, stands_to=now, suspect=None)
        return _send_watts(state, reading, now, max_gap_ms, Method.ESTIMATED)
    bounds = peak_w(state, reading), COUNTER_GRAIN_MS + reading.period_ms
    bases = [b for b in (base, former) if b and is_plausible(b, counter_mj, now, *bounds)]
    if len(bases) == 2 and is_new(state, now, max_gap_ms) and state.run_to == now:
        # Soon after a reset, a counter may fit both bases: by the one it advanced as watts say.
        bases.sort(key=lambda b: abs(unsent_uj(b, counter_mj) - state.run_half_uj // 2))
    if bases:
        return _settle(state, reading, bases[0], counter_mj, now, max_gap_ms)
    if state.suspect and is_plausible(state.suspect, counter_mj, now, *bounds) and agrees(state, counter_mj):
        return _reset(state, reading, state.suspect, counter_mj, now)
    if state.suspect is None or state.suspect.counter_mj != counter_mj:
        has_watts = state.run_to == now
        half_uj, watts_uj = (state.run_half_uj, run_energy_uj(state)) if has_watts else (None, None)
        state = replace_state(state, suspect=SuspectCounter(counter_mj, now, half_uj, watts_uj))
    return _send_watts(state, reading, now, max_gap_ms, Method.ESTIMATED)


def _settle(
    state: MeterState, reading: GpuReading, base: CounterBase, counter_mj: int, now: ClockPoint, max_gap_ms: int
) -> IntervalResult:
    """Send what the counter shows since the base and was not sent yet. The counter is the new base."""
    left_uj = unsent_uj(base, counter_mj) - state.debt_uj
    was_standing = state.stands_to is not None and state.stands_to.monotonic_ms - base.at.monotonic_ms > max_gap_ms
    is_sent = state.anchor.monotonic_ms > base.at.monotonic_ms
    is_doubtful = was_standing or state.debt_uj or is_sent or is_new(state, now, max_gap_ms)
    comparison, differs = state.comparison, False
    if not is_doubtful and base == state.base and state.run_from == state.anchor and state.run_to == now:
        elapsed_ms = now.monotonic_ms - state.anchor.monotonic_ms
        comparison, was_judged = compare(comparison, left_uj, state.run_half_uj // 2, elapsed_ms, reading.period_ms)
        differs = was_judged and comparison.differs
    method = Method.ESTIMATED if is_doubtful or comparison.differs else Method.COUNTER
    energy_uj = max(left_uj, 0)
    intervals: tuple[EnergyInterval, ...] = ()
    if is_sent:  # The time up to the anchor has its intervals. What they lack is a correction over their time.
        tail_uj = min(energy_uj, _tail_uj(state, base, now, energy_uj))
        intervals = _intervals(state, reading, base.at, state.anchor, energy_uj - tail_uj, Method.CORRECTION)
        energy_uj = tail_uj
    intervals += _intervals(state, reading, state.anchor, now, energy_uj, method)
    was_implausible = state.suspect is not None or state.base != base
    former = former_after(state, base, counter_mj)
    if former is None and now.monotonic_ms - base.at.monotonic_ms > max_gap_ms:
        former = CounterBase(base.counter_mj, base.at, shown_uj(base, counter_mj), is_brief=True)
    state = restart(state, now, half_uj=0, counter_mj=counter_mj)
    state = replace_state(state, debt_uj=max(-left_uj, 0), former=former, comparison=comparison)
    return IntervalResult(state, intervals, dips=int(was_implausible), differences=int(differs))


def _tail_uj(state: MeterState, base: CounterBase, now: ClockPoint, energy_uj: int) -> int:
    """Return the energy from the anchor to now: by watts, or where they are missing in proportion to time."""
    begin, end = state.run_from, state.run_to
    if begin is not None and end is not None and end.monotonic_ms == now.monotonic_ms > begin.monotonic_ms:
        return state.run_half_uj // 2
    tail_ms, whole_ms = (now.monotonic_ms - point.monotonic_ms for point in (state.anchor, base.at))
    return energy_uj * tail_ms // whole_ms


def _reset(
    state: MeterState, reading: GpuReading, suspect: SuspectCounter, counter_mj: int, now: ClockPoint
) -> IntervalResult:
    """Take another base, of which two readings agree. Watts are the energy up to it; without them it is a gap."""
    base, begin, end = state.base, state.run_from, state.run_to
    state = replace_state(state, busy=None)  # Of the parts before and after the reset it is unknown.
    has_watts = begin is not None and end is not None and end.monotonic_ms > begin.monotonic_ms
    if state.anchor.monotonic_ms <= suspect.at.monotonic_ms:  # The counter is good from the suspect reading on.
        since_uj = (counter_mj - suspect.counter_mj) * UJ_PER_MJ
        since = _intervals(state, reading, suspect.at, now, since_uj, Method.ESTIMATED)
        end, half_uj = suspect.at, suspect.run_half_uj
    else:
        since, half_uj = (), state.run_half_uj
    intervals: tuple[EnergyInterval, ...] = ()
    paid_uj = 0
    if has_watts and begin and end and half_uj is not None and end.monotonic_ms > begin.monotonic_ms:
        estimate_uj = half_uj // 2
        paid_uj = min(estimate_uj, state.debt_uj)
        intervals = _intervals(state, reading, begin, end, estimate_uj - paid_uj, Method.ESTIMATED)
        state = replace_state(state, debt_uj=state.debt_uj - paid_uj)
    is_whole = bool(intervals) and begin is not None and begin.monotonic_ms == state.anchor.monotonic_ms
    intervals += since
    sent_uj = paid_uj + sum(interval.energy_uj for interval in intervals)
    former = CounterBase(base.counter_mj, base.at, base.sent_uj + sent_uj) if base else None
    debt_uj = state.debt_uj
    state = restart(state, now, half_uj=0, counter_mj=counter_mj)
    state = replace_state(state, former=former, debt_uj=debt_uj, reset_at=now)
    return IntervalResult(state, intervals, resets=1, gaps=int(not is_whole))


def _send_watts(
    state: MeterState, reading: GpuReading, now: ClockPoint, max_gap_ms: int, method: Method,
    max_hold_ms: int = MAX_HOLD_MS,
) -> IntervalResult:  # fmt: skip
    """Send the watts since the anchor where the counter has been open for more than `max_gap_ms`.

    A counter that stands while the device draws next to nothing is believed: it used nothing.
    """
    base = state.base
    assert base is not None
    begin, end = state.run_from, state.run_to
    if now.monotonic_ms - base.at.monotonic_ms <= max_gap_ms:
        return IntervalResult(state)
    if begin is None or end is None or end.monotonic_ms == begin.monotonic_ms:
        # A counter that cannot be read bridges the stretch when it can; one that was read and stood was wrong in it.
        is_new_gap = method is Method.ESTIMATED and not state.has_gap
        return IntervalResult(replace_state(state, has_gap=state.has_gap or is_new_gap), gaps=int(is_new_gap))
    energy_uj = state.run_half_uj // 2
    rests = state.stands_to == now and not base.sent_uj and energy_uj < REST_UJ
    if rests:
        intervals = _intervals(state, reading, state.anchor, now, 0, Method.COUNTER)
        return IntervalResult(restart(state, now, half_uj=0, counter_mj=base.counter_mj), intervals)
    is_stale = state.watts_at is not None and now.monotonic_ms - state.watts_at.monotonic_ms > max_gap_ms
    if is_stale and state.stands_to == now and now.monotonic_ms - state.anchor.monotonic_ms <= max_hold_ms:
        return IntervalResult(state)
    intervals = _intervals(state, reading, begin, end, energy_uj, method)
    covered_ms = end.monotonic_ms - begin.monotonic_ms
    gap = not state.has_gap and covered_ms < end.monotonic_ms - state.anchor.monotonic_ms
    open_state = restart(state, end, half_uj=state.run_half_uj % 2, counter_mj=base.counter_mj)
    open_state = replace_state(
        open_state, base_at=base.at, sent_uj=base.sent_uj + energy_uj, debt_uj=state.debt_uj,
        stands_to=state.stands_to, suspect=state.suspect, former=state.former,
    )  # fmt: skip
    return IntervalResult(open_state, intervals, gaps=int(gap))


def _intervals(
    state: MeterState, reading: GpuReading, begin: ClockPoint, end: ClockPoint, energy_uj: int, method: Method
) -> tuple[EnergyInterval, ...]:
    """Return the interval from `begin` to `end`, in parts that the contract allows. A correction of 0 is none."""
    t0_ms, t1_ms = interval_start_ms(begin, end), end.event_ms
    if method is Method.CORRECTION:
        if not energy_uj:
            return ()
        busy_ms = 0
    else:
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
