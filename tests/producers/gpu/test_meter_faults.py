"""The meter under faults of counters, watts and pages: sums are the device's, and doubtful energy is flagged.

Cases that people met stand in a table. Then simulated devices with a true power curve are read once a second while
counters stand, vanish, read 0, dip, glitch and restart, watts vanish, pages freeze and readings are missed, one at a
time and overlapping.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from contracts.events import Method
from producers.gpu.meter import MeterState, add_reading, send_open
from producers.gpu.readings import EnergyInterval, GpuReading

T0 = 1_700_000_000_000
FIRST_MJ = 5_000_000


def meter(readings: Iterable[GpuReading]) -> list[EnergyInterval]:
    """The intervals of readings, with what the meter holds at their end."""
    state, intervals = None, list[EnergyInterval]()
    for reading in readings:
        result = add_reading(state, reading)
        state = result.state
        intervals += result.intervals
    if state is not None:
        intervals += send_open(state, reading).intervals
    return intervals


def reading(s: float, counter_mj: int | None, watts: float | None, period_s: int = 0) -> GpuReading:
    ms = round(s * 1000)
    return GpuReading(
        gpu_uuid="g", hardware="H100", t_ms=T0 + ms, monotonic_ms=ms, counter_mj=counter_mj, watts=watts,
        period_ms=1000 * period_s,
    )  # fmt: skip


def page(
    seconds: range, value: Callable[[int], tuple[int | None, float | None]], period_s: int = 30
) -> list[GpuReading]:
    """Readings once a second of a page that is renewed each `period_s`: `value` gives (J of the counter, W) then."""
    readings = []
    for s in seconds:
        joules, watts = value(s // period_s * period_s)
        readings.append(reading(s, None if joules is None else FIRST_MJ + 1000 * joules, watts, period_s))
    return readings


def sums(intervals: list[EnergyInterval]) -> dict[str, int]:
    """Joules by evidence."""
    by_method: dict[str, int] = {}
    for interval in intervals:
        by_method[interval.method.name] = by_method.get(interval.method.name, 0) + interval.energy_uj
    return {name: energy_uj // 1_000_000 for name, energy_uj in by_method.items() if energy_uj}


def test_a_page_that_froze_is_bridged_over_its_own_time_when_it_returns() -> None:
    frozen = range(600, 1_800)

    def value(s: int) -> tuple[int, float]:
        s = frozen.start if s in frozen else s
        return 700 * s, 700.0

    intervals = meter(page(range(3_001), value))
    assert sum(i.energy_uj for i in intervals) == 700 * 3_000 * 1_000_000
    [bridge] = [i for i in intervals if i.t1_ms - i.t0_ms > 60_000]
    assert (bridge.t0_ms - T0, bridge.t1_ms - T0) == (600_000, 1_800_000)
    assert (bridge.energy_uj, bridge.method) == (700 * 1_200 * 1_000_000, Method.ESTIMATED)


def test_a_blank_counter_at_a_period_of_30_s_loses_nothing() -> None:
    blank = range(120, 720)
    intervals = meter(page(range(901), lambda s: (None if s in blank else 400 * s, 400.0)))
    assert sum(i.energy_uj for i in intervals) == 400 * 900 * 1_000_000


def test_a_reloaded_driver_at_a_period_of_30_s_loses_nothing() -> None:
    intervals = meter(page(range(301), lambda s: (600 * s if s < 150 else 600 * (s - 150) + 1, 600.0)))
    assert sum(i.energy_uj for i in intervals) == pytest.approx(600 * 300 * 1_000_000, rel=1e-5)


@pytest.mark.parametrize(("counter_mj", "method"), [(123_456, "ESTIMATED"), (0, "ESTIMATED"), (None, "INTEGRATED")])
def test_a_counter_that_never_moves_is_no_measurement_while_watts_are_drawn(
    counter_mj: int | None, method: str
) -> None:
    assert sums(meter(reading(s, counter_mj, 247.0) for s in range(301))) == {method: 74_100}


def test_a_counter_that_stands_while_the_device_draws_nothing_is_believed() -> None:
    intervals = meter(reading(s, 5_000, 0.0) for s in range(301))
    assert {i.method for i in intervals} == {Method.COUNTER}
    assert sum(i.energy_uj for i in intervals) == 0


@pytest.mark.parametrize("counter_mj", [0, None])
def test_a_device_that_shows_only_zeros_is_not_measured(counter_mj: int | None) -> None:
    assert meter(reading(s, counter_mj, 0.0) for s in range(301)) == []


def test_watts_of_0_are_energy_where_the_device_showed_watts_before() -> None:
    assert sums(meter(reading(s, None, 100.0 if s < 10 else 0.0) for s in range(301))) == {"INTEGRATED": 950}


@pytest.mark.parametrize(("counter_w", "watts"), [(30, 300.0), (900, 300.0), (0.5, 250.0)])
def test_a_counter_that_differs_from_the_watts_for_a_minute_is_estimated(counter_w: float, watts: float) -> None:
    readings = [reading(s, FIRST_MJ + round(1000 * counter_w * s), watts + s % 3) for s in range(301)]
    by_method = sums(meter(readings))
    assert by_method["COUNTER"] <= counter_w * 60
    assert sum(by_method.values()) == pytest.approx(counter_w * 300, abs=2)


def test_a_counter_is_believed_again_once_it_agrees_with_the_watts() -> None:
    counters_mj, readings = FIRST_MJ, []
    for s in range(601):
        readings.append(reading(s, counters_mj, 300.0))
        counters_mj += 30_000 if s < 120 else 300_000
    intervals = meter(readings)
    assert [i.method for i in intervals[:59]] == [Method.COUNTER] * 59
    assert [i.method for i in intervals[59:179]] == [Method.ESTIMATED] * 120
    assert {i.method for i in intervals[179:]} == {Method.COUNTER}


@pytest.mark.parametrize(("counter_w", "watts"), [(8, 20.0), (200, 300.0), (450, 300.0)])
def test_a_counter_of_about_the_watts_is_believed(counter_w: int, watts: float) -> None:
    readings = [reading(s, FIRST_MJ + 1000 * counter_w * s, watts) for s in range(301)]
    assert sums(meter(readings)) == {"COUNTER": counter_w * 300}


def test_a_counter_that_stands_without_watts_is_a_gap_until_it_moves() -> None:
    readings = [*(reading(s, 5_000, None) for s in range(61)), reading(61, 605_000, None)]
    assert meter(readings[:-1]) == []
    assert [(i.t0_ms - T0, i.t1_ms - T0, i.energy_uj, i.method) for i in meter(readings)] == [
        (0, 61_000, 600_000_000, Method.ESTIMATED)
    ]


def test_watts_are_sent_while_a_counter_stands_and_corrected_when_it_moves() -> None:
    """Watts read 10 W too little for the 60 s in which the counter stands; they change, so they are alive."""
    readings = [reading(s, 5_000 if s < 60 else 5_000 + 300_000 * s, 290.0 + s % 2) for s in range(62)]
    intervals = meter(readings)
    assert sum(i.energy_uj for i in intervals) == 300 * 61 * 1_000_000
    [correction] = [i for i in intervals if i.method is Method.CORRECTION]
    assert (correction.t0_ms - T0, correction.t1_ms - T0, correction.busy_ms) == (0, 59_000, 0)
    assert sums(intervals)["COUNTER"] == 300


def test_energy_sent_beyond_the_counter_is_taken_from_the_next_intervals() -> None:
    readings = [reading(s, 5_000 if s < 60 else 5_000 + 300_000 * s, 310.0 + s % 2) for s in range(70)]
    intervals = meter(readings)
    assert sum(i.energy_uj for i in intervals) == 300 * 69 * 1_000_000
    assert min(i.energy_uj for i in intervals) == 0
    assert sums(intervals)["COUNTER"] == 300 * 7


def test_a_debt_is_paid_once_when_a_long_dip_passes_for_a_reset() -> None:
    """Watts read too much for 60 s in which the counter stands. Then another counter is read for 5 s."""
    first_mj, watts = 10**9, 300.0

    def read(s: int) -> GpuReading:
        if s < 60:
            return reading(s, first_mj, 400.0 + s % 2)
        if 62 <= s < 67:
            return reading(s, 1_000 + 300_000 * (s - 61), watts)
        return reading(s, first_mj + 300_000 * s, watts)

    assert sum(i.energy_uj for i in meter(read(s) for s in range(121))) == 300 * 120 * 1_000_000


@pytest.mark.parametrize("dip_mj", [0, 1, 4_999])
def test_a_counter_that_dips_and_returns_counts_the_difference_once(dip_mj: int) -> None:
    counters = [5_000, 305_000, dip_mj, 905_000, 1_205_000]
    intervals = meter(reading(s, counter_mj, 300.0) for s, counter_mj in enumerate(counters))
    assert sums(intervals) == {"COUNTER": 1_200}


@pytest.mark.parametrize("glitch_mj", [37_000_000, 2**63 - 1])
def test_a_counter_that_glitches_once_counts_nothing_of_it(glitch_mj: int) -> None:
    counters = [5_000, 305_000, glitch_mj, 905_000, 1_205_000]
    intervals = meter(reading(s, counter_mj, 300.0) for s, counter_mj in enumerate(counters))
    assert sums(intervals) == {"COUNTER": 1_200}


def test_a_step_beyond_the_power_limit_is_held_though_it_is_below_what_other_devices_use() -> None:
    counters = [5_000, 305_000, 1_605_000, 905_000]
    readings = [replace(reading(s, counter_mj, None), limit_w=350.0) for s, counter_mj in enumerate(counters)]
    assert [i.energy_uj for i in meter(readings)] == [300_000_000, 600_000_000]


def test_a_power_limit_below_the_drawn_watts_does_not_make_the_counter_implausible() -> None:
    readings = [replace(reading(s, 5_000 + 300_000 * s, 300.0), limit_w=1.0) for s in range(5)]
    assert sums(meter(readings)) == {"COUNTER": 1_200}


def test_utilisation_over_a_whole_is_unknown() -> None:
    readings = [replace(reading(s, 300_000 * s + 1, None), utilisation=1.2) for s in range(2)]
    assert [i.busy_ms for i in meter(readings)] == [-1]


# Simulated devices

SECONDS = 900
KINDS = ("stands", "blank", "zero", "reset", "dip", "glitch", "frozen", "no watts", "missed")


@dataclass
class Device:
    """A device with a true power curve, linear between whole seconds, and faults of what is read of it."""

    seed: int
    mw: list[int] = field(default_factory=list)
    energy_uj: list[int] = field(default_factory=lambda: [0])
    faults: list[tuple[str, range]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = self._rng = random.Random(self.seed)
        watts = rng.uniform(60, 700)
        for _ in range(SECONDS + 1):
            watts = rng.uniform(60, 700) if rng.random() < 0.05 else watts
            self.mw.append(int(1000 * (watts + rng.uniform(-5, 5))))
        for a, b in pairwise(self.mw):
            self.energy_uj.append(self.energy_uj[-1] + 500 * (a + b))
        for _ in range(rng.randrange(4)):
            kind, start = rng.choice(KINDS), rng.randrange(20, SECONDS - 300)
            length = rng.choice([1, 2, 5] if kind in ("dip", "glitch") else [1, 2, 5, 12, 40, 200])
            self.faults.append((kind, range(start, start + length)))
        self._first_uj = rng.randrange(10**6, 10**9) * 1000

    def counter_mj(self, s: int) -> int:
        resets = [span.start for kind, span in self.faults if kind == "reset" and span.start <= s]
        first_uj = -self.energy_uj[max(resets)] if resets else self._first_uj
        return (self.energy_uj[s] + first_uj) // 1000

    def reading(self, s: int) -> GpuReading | None:
        counter_mj: int | None = self.counter_mj(s)
        watts: float | None = self.mw[s] / 1000
        for kind, span in self.faults:
            if s not in span:
                continue
            match kind:
                case "stands":
                    counter_mj = self.counter_mj(span.start)
                case "blank":
                    counter_mj = None
                case "zero":
                    counter_mj = 0
                case "dip":
                    counter_mj = self.counter_mj(span.start) // 3 + 1
                case "glitch":
                    counter_mj = self.counter_mj(s) + self._rng.choice([7 * 10**9, 2**60])
                case "frozen":
                    counter_mj, watts = self.counter_mj(span.start), self.mw[span.start] / 1000
                case "no watts":
                    watts = None
                case "missed":
                    return None
        return reading(s, counter_mj, watts)

    def unreadable_uj(self) -> int:
        """Energy that cannot be known: of seconds around a reset without a good counter or good watts."""
        blind_counter = {s for kind, span in self.faults if kind not in ("reset", "no watts") for s in span}
        blind_watts = {s for kind, span in self.faults if kind in ("frozen", "no watts", "missed") for s in span}
        lost: set[int] = set()
        for kind, span in self.faults:
            if kind != "reset":
                continue
            before, after = span.start - 1, span.start
            while before in blind_counter:
                before -= 1
            while after in blind_counter or after + 1 in blind_counter:
                after += 1
            lost |= {s for s in range(before, after + 2) if {s, s + 1} & blind_watts}
        return sum(self.energy_uj[s + 1] - self.energy_uj[s] for s in lost)


def check(seed: int) -> None:
    device, state, intervals = Device(seed), None, list[EnergyInterval]()
    for s in range(SECONDS + 1):
        if (read := device.reading(s)) is not None:
            result = add_reading(state, read)
            state, intervals = result.state, [*intervals, *result.intervals]
    assert isinstance(state, MeterState)
    true_uj = device.energy_uj[state.anchor.monotonic_ms // 1000]
    error_uj = abs(sum(i.energy_uj for i in intervals) - state.debt_uj - true_uj)
    assert error_uj <= true_uj / 1000 + device.unreadable_uj(), (device.faults, error_uj / true_uj)
    for i in intervals:
        if i.method is Method.COUNTER:
            spent_uj = device.energy_uj[(i.t1_ms - T0) // 1000] - device.energy_uj[(i.t0_ms - T0) // 1000]
            assert i.energy_uj <= spent_uj + 2_000, (device.faults, i)
    own_time = [i for i in intervals if i.method is not Method.CORRECTION]
    assert all(a.t1_ms <= b.t0_ms for a, b in pairwise(own_time))


@pytest.mark.parametrize("seeds", [range(100), pytest.param(range(100, 10_000), marks=pytest.mark.slow)], ids=str)
def test_energy_is_the_devices_wherever_it_was_readable_and_no_counted_joule_is_invented(seeds: range) -> None:
    for seed in seeds:
        check(seed)
