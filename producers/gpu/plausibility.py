"""Plausibility of readings: which values are none, and how far a counter may advance. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from contracts.units import UJ_PER_MJ
from producers.gpu.event_time import ClockPoint
from producers.gpu.meter_state import Comparison, CounterBase, MeterState, SuspectCounter
from producers.gpu.readings import GpuReading
from producers.runtime.refusals import shorten

MAX_WATTS = 20_000
"""More than any device draws (a rack-scale GB200 superchip draws 2,700 W). Greater figures are no watts."""
LIMIT_FACTOR = 1.5
"""Factor on its power limit up to which a device's energy is plausible: limits are averages over some time."""
PEAK_FACTOR = 2.0
"""The same on the most watts that it has shown, where its limit is unknown."""
UNKNOWN_PEAK_W = 3_000
"""What a device may use of which neither limit nor watts are known: more than a GB200 superchip."""
MIN_PEAK_W = 1_500
"""What a device may use however few watts it has shown so far: an idle GPU may start to work between two readings."""
AGREEMENT = 2
"""Factor within which a counter that started anew must agree with watts: it advances in steps, and they fluctuate."""
COUNTER_GRAIN_MS = 200
"""Counters advance in steps (NVML's about every 100 ms), so a short interval may contain a step that began before."""
MAX_COUNTER_MJ = 2**63 - 1
COMPARED_MS = 60_000
"""Time after which a counter and watts are judged against each other: the watts of a moment say little."""
COMPARED_PERIODS = 20
"""The same in periods of an exporter, of which each shows one moment's watts."""
MAX_RATIO = 2
"""Ratio of a counter's energy and that by watts beyond which one of them is wrong. Of a GPU and its module, which has
the CPU too, it is smaller under load. A known case: https://github.com/ROCm/amdsmi/issues/38."""
MIN_DIFFERENCE_W = 30
"""Difference that is no rounding of a device at rest."""


def implausible_value(reading: GpuReading, peak_mw: int) -> str:
    """Return what is implausible of a reading, which is taken as unknown; "" where nothing is.

    `peak_mw` are the most milliwatts that the device has shown before.
    """
    if reading.counter_mj is not None and valid_counter(reading.counter_mj, None) is None:
        return f"a counter of {shorten(reading.counter_mj)} mJ"
    if reading.watts is not None and milliwatts(reading.watts) is None:
        return f"{shorten(reading.watts)} W"
    return "0 W, as at each reading so far," if is_blank(reading, peak_mw) else ""


def is_blank(reading: GpuReading, peak_mw: int) -> bool:
    """Return True for a device that shows only zeros, as guests of a virtual GPU see: what runs draws more."""
    return reading.watts == 0 and not reading.counter_mj and not peak_mw


def valid_counter(counter_mj: int | None, mw: int | None) -> int | None:
    """Return a counter, or None for what is none: out of range, or at 0 while watts are drawn."""
    if counter_mj is None or not 0 <= counter_mj <= MAX_COUNTER_MJ or (counter_mj == 0 and mw):
        return None
    return counter_mj


def milliwatts(watts: float | None) -> int | None:
    """Return whole milliwatts, or None for a value that is no power: absent, NaN, negative, beyond MAX_WATTS."""
    if watts is None or not math.isfinite(watts) or not 0 <= watts <= MAX_WATTS:
        return None
    return round(watts * 1000)


def is_plausible(
    base: CounterBase | SuspectCounter, counter_mj: int, now: ClockPoint, max_w: float, grain_ms: int
) -> bool:
    """Return True if a device may have advanced its counter so far since the base."""
    elapsed_ms = now.monotonic_ms - base.at.monotonic_ms + grain_ms
    return 0 < counter_mj - base.counter_mj <= max_w * elapsed_ms  # W x ms = mJ


def is_new(state: MeterState, now: ClockPoint, max_gap_ms: int) -> bool:
    """Return True if the counter started anew less than `max_gap_ms` ago."""
    return state.reset_at is not None and now.monotonic_ms - state.reset_at.monotonic_ms <= max_gap_ms


def agrees(state: MeterState, counter_mj: int) -> bool:
    """Return True if the counter advanced since the suspect reading as watts say, or if no watts say anything."""
    suspect = state.suspect
    if suspect is None or suspect.watts_uj is None or state.run_to != state.last:
        return True
    by_watts_uj = run_energy_uj(state) - suspect.watts_uj
    return by_watts_uj < AGREEMENT * (counter_mj - suspect.counter_mj) * UJ_PER_MJ < AGREEMENT**2 * by_watts_uj


def compare(
    comparison: Comparison, counter_uj: int, watts_uj: int, elapsed_ms: int, period_ms: int
) -> tuple[Comparison, bool]:
    """Add energy by the counter and by watts over the same time. Return the sums, and True if they were judged."""
    counter_uj, watts_uj = comparison.counter_uj + counter_uj, comparison.watts_uj + watts_uj
    elapsed_ms += comparison.elapsed_ms
    if elapsed_ms < max(COMPARED_MS, COMPARED_PERIODS * period_ms):
        return Comparison(counter_uj, watts_uj, elapsed_ms, comparison.differs), False
    less, more = sorted((counter_uj, watts_uj))
    is_rounding = more - less < MIN_DIFFERENCE_W * elapsed_ms * UJ_PER_MJ
    return Comparison(differs=more > MAX_RATIO * less and not is_rounding), True


def difference_note(gpus: Collection[str]) -> str:
    """Return a sentence on GPUs whose counter and watts differed."""
    some = ", ".join(sorted(gpus)[:8])
    return (
        f"The energy counter and the watts of {some} differ by more than half for a time: it is flagged as estimated."
    )


def run_energy_uj(state: MeterState) -> int:
    """Return the energy by watts since the base: what was sent, and the run since then."""
    return state.sent_uj + state.run_half_uj // 2


def peak_w(state: MeterState, reading: GpuReading) -> float:
    """Return the most that a device may use on average, in watts: never less than it has shown to draw."""
    if reading.limit_w is not None and math.isfinite(reading.limit_w) and 0 < reading.limit_w <= MAX_WATTS:
        return max(LIMIT_FACTOR * reading.limit_w, PEAK_FACTOR * state.peak_mw / 1000)
    return max(PEAK_FACTOR * state.peak_mw / 1000, MIN_PEAK_W) if state.peak_mw else UNKNOWN_PEAK_W
