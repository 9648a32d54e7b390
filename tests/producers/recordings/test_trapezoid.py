"""Watts to joules in integers."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.recordings.trapezoid import Trapezoid, microwatts, power_at, spread

READINGS = st.lists(st.tuples(st.integers(1, 300_000), st.integers(0, 10**12)), min_size=2, max_size=60)


def _exact_uj(readings: list[tuple[int, int]]) -> Fraction:
    return sum((Fraction((p + q) * dt, 2000) for (_, p), (dt, q) in pairwise(readings)), Fraction())


@given(READINGS)
def test_the_intervals_of_a_device_sum_to_the_whole_trapezoid(readings: list[tuple[int, int]]) -> None:
    meter = Trapezoid()
    total = sum(meter.energy_uj(p, q, dt) for (_, p), (dt, q) in pairwise(readings))
    assert 0 <= _exact_uj(readings) - total < 1


@given(st.integers(0, 10**11), st.integers(0, 10**11), st.integers(2, 300_000), st.data())
def test_cutting_an_interval_on_the_line_between_readings_keeps_its_energy(p: int, q: int, dt: int, data) -> None:  # type: ignore[no-untyped-def]
    at = data.draw(st.integers(1, dt - 1))
    between = power_at(at, 0, p, dt, q)
    full, parts = Trapezoid(), Trapezoid()
    one = full.energy_uj(p, q, dt)
    two = parts.energy_uj(p, between, at) + parts.energy_uj(between, q, dt - at)
    # The power at the cut is rounded to a microwatt: half a microwatt over half the interval, and the last remainder.
    assert abs(one - two) <= dt / 4000 + 1


@given(st.integers(0, 10**12), st.integers(1, 1000))
def test_spread_shares_evenly_and_sums_exactly(total: int, parts: int) -> None:
    shares = spread(total, parts)
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(
    ("text", "uw"), [("215.34", 215_340_000), (" 215.34 W", 215_340_000), ("0", 0), ("1e3", 10**9)]
)
def test_watts_as_text_are_whole_microwatts(text: str, uw: int) -> None:
    assert microwatts(text) == uw


@pytest.mark.parametrize("text", ["", "W", "x", "nan", "inf", "-1", "9.2e18", "12 kW"])
def test_text_that_is_no_power_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="watts"):
        microwatts(text)
