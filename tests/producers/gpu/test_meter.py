"""Readings to intervals: every joule of the counter, no invented joule, no overlap in event time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import MAX_SPAN_MS, Method
from producers.gpu.event_time import MAX_SLEW_MS
from producers.gpu.meter import add_reading
from producers.gpu.meter_state import MeterState
from producers.gpu.readings import EnergyInterval, GpuReading, merge_intervals, split_interval

T0 = 1_700_000_000_000
FIRST = GpuReading("GPU-1", "NVIDIA H100 80GB HBM3", T0, 5_000, counter_mj=10_000, watts=300.0, utilisation=0.5)


def at(dt_ms: int, *, wall_ms: int | None = None, **changed: object) -> GpuReading:
    """The first reading, `dt_ms` later on both clocks; `wall_ms` overrides the wall clock."""
    later = FIRST.t_ms + (dt_ms if wall_ms is None else wall_ms)
    return replace(FIRST, t_ms=later, monotonic_ms=FIRST.monotonic_ms + dt_ms, **changed)  # type: ignore[arg-type]


def run(readings: Iterable[GpuReading], max_gap_ms: int = 10_000) -> tuple[list[EnergyInterval], dict[str, int]]:
    state: MeterState | None = None
    intervals: list[EnergyInterval] = []
    counts = {"resets": 0, "dips": 0, "gaps": 0, "clock_steps": 0}
    for reading in readings:
        took = add_reading(state, reading, max_gap_ms=max_gap_ms)
        state = took.state
        intervals += took.intervals
        for name in counts:
            counts[name] += getattr(took, name)
    return intervals, counts


def test_a_counter_difference_is_the_energy_to_the_microjoule() -> None:
    intervals, counts = run([FIRST, at(1000, counter_mj=10_301)])
    assert intervals == [
        EnergyInterval(
            gpu_uuid="GPU-1",
            hardware=FIRST.hardware,
            t0_ms=T0,
            t1_ms=T0 + 1000,
            energy_uj=301_000,
            method=Method.COUNTER,
            busy_ms=500,
        )
    ]
    assert not any(counts.values())


def test_a_missing_counter_is_bridged_by_the_next_valid_one() -> None:
    intervals, counts = run([FIRST, at(1000, counter_mj=None), at(2000, counter_mj=None), at(3000, counter_mj=11_000)])
    assert [(i.t0_ms - T0, i.t1_ms - T0, i.energy_uj, i.method) for i in intervals] == [
        (0, 3000, 1_000_000, Method.COUNTER)
    ]
    assert counts["gaps"] == 0


def test_a_counter_that_goes_back_is_a_new_epoch_estimated_from_watts() -> None:
    readings = [replace(FIRST, counter_mj=10**9), at(1000, counter_mj=7, watts=500.0)]
    readings += [at(2000, counter_mj=400_007), at(3000, counter_mj=700_007)]
    intervals, counts = run(readings)
    assert [(i.energy_uj, i.method) for i in intervals] == [
        (400_000_000, Method.ESTIMATED), (400_000_000, Method.ESTIMATED), (300_000_000, Method.ESTIMATED),
    ]  # fmt: skip
    assert counts["resets"] == 1
    assert counts["gaps"] == 0


def test_a_reset_without_watts_is_a_gap_without_invented_energy() -> None:
    intervals, counts = run(
        [replace(FIRST, watts=None), at(1000, counter_mj=7, watts=None), at(2000, counter_mj=8, watts=None)]
    )
    assert [(i.t0_ms - T0, i.energy_uj) for i in intervals] == [(1000, 1000)]
    assert counts == {"resets": 1, "dips": 0, "gaps": 1, "clock_steps": 0}


def test_without_a_counter_watts_are_integrated_by_the_trapezoid() -> None:
    first = replace(FIRST, counter_mj=None, watts=100.0)
    intervals, _ = run([first, at(1000, counter_mj=None, watts=300.0)])
    assert [(i.energy_uj, i.method) for i in intervals] == [(200_000_000, Method.INTEGRATED)]


def test_watts_are_not_integrated_across_a_gap_which_is_counted() -> None:
    first = replace(FIRST, counter_mj=None)
    readings = [first, at(1000, counter_mj=None), at(20_000, counter_mj=None), at(21_000, counter_mj=None)]
    intervals, counts = run(readings)
    assert [(i.t0_ms - T0, i.t1_ms - T0, i.busy_ms) for i in intervals] == [(0, 1000, 500), (20_000, 21_000, 500)]
    assert counts["gaps"] == 1


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -1.0, 1e12])
def test_a_non_numeric_reading_is_skipped(bad: float | None) -> None:
    first = replace(FIRST, counter_mj=None)
    intervals, counts = run([first, at(1000, counter_mj=None, watts=bad), at(2000, counter_mj=None)])
    assert [(i.t1_ms - i.t0_ms, i.energy_uj) for i in intervals] == [(2000, 600_000_000)]
    assert counts["gaps"] == 0


def test_a_gpu_without_measurements_reports_nothing() -> None:
    intervals, _ = run([at(dt, counter_mj=None, watts=None) for dt in range(0, 60_000, 1000)])
    assert intervals == []


def test_watts_before_a_counted_interval_are_never_used_twice() -> None:
    """The counter closes an interval at a reading without watts; a later estimate must not reach back before it."""
    readings = [FIRST, at(1000, counter_mj=310_000, watts=None), at(2000, counter_mj=None)]
    readings += [at(3000, counter_mj=1), at(4000, counter_mj=300_001)]
    intervals, counts = run(readings)
    assert [(i.t0_ms - T0, i.t1_ms - T0, i.method) for i in intervals] == [
        (0, 1000, Method.COUNTER), (2000, 3000, Method.ESTIMATED), (3000, 4000, Method.ESTIMATED),
    ]  # fmt: skip
    assert counts["gaps"] == 1


def test_partly_unknown_utilisation_is_unknown_for_the_interval() -> None:
    intervals, _ = run([FIRST, at(1000, counter_mj=None, utilisation=None), at(2000, counter_mj=10_600)])
    assert intervals[0].busy_ms == -1


def test_a_wall_clock_set_forward_leaves_a_gap_not_a_longer_interval() -> None:
    intervals, _ = run(
        [FIRST, at(1000, counter_mj=10_300, wall_ms=61_000), at(2000, counter_mj=10_600, wall_ms=62_000)]
    )
    assert [(i.t0_ms - T0, i.t1_ms - T0) for i in intervals] == [(60_000, 61_000), (61_000, 62_000)]


def test_a_wall_clock_set_back_slows_event_time_to_half_speed_until_it_has_caught_up() -> None:
    readings = [FIRST, *(at(n * 1000, counter_mj=10_000 + n, wall_ms=n * 1000 - 1000) for n in range(1, 5))]
    intervals, counts = run(readings)
    assert [(i.t0_ms - T0, i.t1_ms - T0) for i in intervals] == [(0, 500), (500, 1000), (1000, 2000), (2000, 3000)]
    assert counts["clock_steps"] == 0


def test_a_clock_that_was_far_ahead_restarts_event_time_and_is_counted() -> None:
    hour = 3_600_000
    intervals, counts = run([FIRST, at(1000, counter_mj=10_300, wall_ms=1000 - hour)])
    assert [(i.t0_ms - T0, i.t1_ms - T0) for i in intervals] == [(-hour, 1000 - hour)]
    assert counts["clock_steps"] == 1


def test_a_reading_that_is_not_later_is_ignored() -> None:
    intervals, _ = run([FIRST, at(0, counter_mj=99_999, wall_ms=500), at(1000, counter_mj=10_300)])
    assert [i.energy_uj for i in intervals] == [300_000]


def test_an_interval_longer_than_the_contract_is_split_without_losing_a_microjoule() -> None:
    hours = 20 * 3_600_000
    intervals, _ = run([FIRST, at(hours, counter_mj=10_000 + 21_600_007)])
    assert len(intervals) == 4
    assert max(i.t1_ms - i.t0_ms for i in intervals) == MAX_SPAN_MS
    assert sum(i.energy_uj for i in intervals) == 21_600_007_000
    assert [a.t1_ms == b.t0_ms for a, b in itertools.pairwise(intervals)] == [True] * 3


def test_merging_across_a_gap_keeps_the_joules_and_marks_them_estimated() -> None:
    a = EnergyInterval(gpu_uuid="g", hardware="h", t0_ms=0, t1_ms=1000, energy_uj=5, method=Method.COUNTER, busy_ms=100)
    assert merge_intervals(a, replace(a, t0_ms=1000, t1_ms=2000)) == EnergyInterval(
        gpu_uuid="g", hardware="h", t0_ms=0, t1_ms=2000, energy_uj=10, method=Method.COUNTER, busy_ms=200
    )
    assert merge_intervals(a, replace(a, t0_ms=1500, t1_ms=2000)) == EnergyInterval(
        gpu_uuid="g", hardware="h", t0_ms=0, t1_ms=2000, energy_uj=10, method=Method.ESTIMATED, busy_ms=200
    )


steps_ms = st.lists(st.integers(1, 9_000), min_size=1, max_size=60)


@given(steps_ms, st.data())
def test_the_sum_is_the_counters_for_any_dropped_readings(steps: list[int], data: st.DataObject) -> None:
    first, t, counter = replace(FIRST, watts=10.0), 0, 10_000
    readings = [first]
    for elapsed in steps:
        t += elapsed
        counter += data.draw(st.integers(1, 20 * elapsed))  # Up to 20 W: about the watts, which are 10.
        readings.append(at(t, counter_mj=counter, watts=10.0))
    total = (counter - 10_000) * 1000
    inner = readings[1:-1]
    dropped = data.draw(st.lists(st.sampled_from(["keep", "drop", "blind"]), min_size=len(inner), max_size=len(inner)))
    blind = [r if d == "keep" else replace(r, counter_mj=None, watts=None) for r, d in zip(inner, dropped, strict=True)]
    seen = [r for r, d in zip(blind, dropped, strict=True) if d != "drop"]
    for variant in (readings, [first, *seen, readings[-1]], [first, readings[-1]]):
        intervals, counts = run(variant)
        assert sum(i.energy_uj for i in intervals) == total
        assert {i.method for i in intervals} <= {Method.COUNTER}
        assert not any(counts.values())


@given(steps_ms, st.data())
def test_integrated_watts_never_drift_by_a_microjoule(steps: list[int], data: st.DataObject) -> None:
    mw = [data.draw(st.integers(1, 1_000_000)) for _ in range(len(steps) + 1)]
    t, half_uj = 0, 0
    readings = [replace(FIRST, counter_mj=None, watts=mw[0] / 1000)]
    for n, elapsed in enumerate(steps):
        t += elapsed
        half_uj += (mw[n] + mw[n + 1]) * elapsed
        readings.append(at(t, counter_mj=None, watts=mw[n + 1] / 1000))
    intervals, _ = run(readings)
    assert sum(i.energy_uj for i in intervals) == half_uj // 2


@given(st.lists(st.tuples(st.integers(1, 5_000), st.integers(-MAX_SLEW_MS // 2, 120_000)), min_size=1, max_size=40))
def test_event_time_never_overlaps_for_any_steps_of_the_wall_clock(moves: list[tuple[int, int]]) -> None:
    readings, t, wall, counter = [FIRST], 0, 0, 10_000
    for elapsed, jump in moves:
        t += elapsed
        wall = max(wall + elapsed + jump, readings[-1].t_ms - T0 - MAX_SLEW_MS // 2)
        counter += elapsed
        readings.append(at(t, counter_mj=counter, wall_ms=wall))
    intervals, counts = run(readings)
    if not counts["clock_steps"]:
        assert all(a.t1_ms <= b.t0_ms for a, b in itertools.pairwise(intervals))
    assert all(i.t1_ms - i.t0_ms > 0 for i in intervals)
    assert sum(i.t1_ms - i.t0_ms for i in intervals) <= t
    assert sum(i.energy_uj for i in intervals) == t * 1000


@given(st.integers(1, 10**6), st.integers(0, 10**12), st.integers(1, 10**5))
def test_splitting_is_exact(span: int, energy: int, part: int) -> None:
    original = EnergyInterval(
        gpu_uuid="g", hardware="h", t0_ms=5, t1_ms=5 + span, energy_uj=energy, method=Method.COUNTER, busy_ms=span // 3
    )
    parts = list(split_interval(original, max(part, span // 50 + 1)))
    assert sum(p.energy_uj for p in parts) == energy
    assert sum(p.busy_ms for p in parts) == span // 3
    assert parts[0].t0_ms == 5
    assert parts[-1].t1_ms == 5 + span
    assert all(p.busy_ms <= p.t1_ms - p.t0_ms for p in parts)
