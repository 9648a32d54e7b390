"""Regular series: gaps kept and counted, duplicates refused, partial days dropped, filling bounded and reported."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, MS_PER_HOUR, epoch_ms
from forecasting import daily, regular
from forecasting.series import checked, fill, runs

DAY0 = epoch_ms("2026-01-01")


def days(*values: float | None) -> list[tuple[int, float]]:
    return [(DAY0 + i * MS_PER_DAY, v) for i, v in enumerate(values) if v is not None]


def test_a_missing_day_is_nan_and_not_zero() -> None:
    series = regular(days(1, None, 3), step_ms=MS_PER_DAY)
    assert series.isna().tolist() == [False, True, False]


def test_an_absent_day_may_be_declared_to_be_zero() -> None:
    series = regular(days(1, None, 3), step_ms=MS_PER_DAY, until_ms=DAY0 + 4 * MS_PER_DAY, absent="zero")
    assert series.tolist() == [1.0, 0.0, 3.0, 0.0]


def test_the_trailing_partial_step_is_dropped() -> None:
    series = regular(days(1, 2, 3), step_ms=MS_PER_DAY, until_ms=DAY0 + 2 * MS_PER_DAY + 5 * MS_PER_HOUR)
    assert series.tolist() == [1.0, 2.0]


def test_silence_up_to_the_known_end_is_a_gap() -> None:
    series = regular(days(1), step_ms=MS_PER_DAY, until_ms=DAY0 + 3 * MS_PER_DAY)
    assert len(series) == 3 and series.isna().sum() == 2


def test_decimal_money_and_integer_microjoules_are_accepted() -> None:
    rows = [(DAY0, Decimal("1.25")), (DAY0 + MS_PER_DAY, 3_600_000_000_000)]
    assert regular(rows, step_ms=MS_PER_DAY).tolist() == [1.25, 3.6e12]


def test_no_rows_give_an_empty_series() -> None:
    assert regular([], step_ms=MS_PER_DAY).empty


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ([(DAY0, 1.0), (DAY0, 2.0)], "time"),
        ([(DAY0 + 1, 1.0)], "time"),
        ([(DAY0, float("nan"))], "value at 2026-01-01T00:00:00.000Z"),
        ([(DAY0, 1.0), (DAY0 + 200_000 * MS_PER_DAY, 1.0)], "rows"),
    ],
    ids=["duplicate", "misaligned", "not finite", "too long"],
)
def test_a_bad_row_is_named(rows: list[tuple[int, float]], field: str) -> None:
    with pytest.raises(BadInput) as error:
        regular(rows, step_ms=MS_PER_DAY)
    assert error.value.field == field


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(values: list[float], shuffler: random.Random) -> None:
    rows = days(*values)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    pd.testing.assert_series_equal(regular(rows, step_ms=MS_PER_DAY), regular(shuffled, step_ms=MS_PER_DAY))


def hours(n: int, start: str = "2026-01-01") -> pd.Series:
    return pd.Series(np.arange(n, dtype=float), pd.date_range(start, periods=n, freq="h", tz="UTC"))


def test_hours_sum_to_days_and_partial_days_at_both_ends_are_dropped() -> None:
    series = daily(hours(60, "2026-01-01T20:00"))  # 4 h, two whole days, 8 h
    assert series.tolist() == [sum(range(4, 28)), sum(range(28, 52))]
    assert str(series.index[0]) == "2026-01-02 00:00:00+00:00"


def test_a_day_with_a_missing_hour_is_missing_unless_fewer_hours_are_declared_enough() -> None:
    values = pd.Series(2.0, hours(48).index)
    values.iloc[5] = np.nan
    assert daily(values).isna().tolist() == [True, False]
    assert daily(values, min_hours=20).tolist() == [48.0, 48.0]


def test_a_short_gap_is_filled_from_the_same_phase_and_counted() -> None:
    values = np.tile(np.arange(7.0), 6)
    gappy = values.copy()
    gappy[15:18] = np.nan
    filled = fill(gappy, 7, max_gap=14)
    assert filled.values.tolist() == values.tolist()
    assert (filled.interpolated, filled.longest_gap, filled.start) == (3, 3, 0)


def test_history_starts_after_a_gap_too_long_to_fill() -> None:
    values = np.ones(60)
    values[20:40] = np.nan
    filled = fill(values, 7, max_gap=14)
    assert (filled.start, len(filled.values), filled.interpolated, filled.longest_gap) == (40, 20, 0, 20)


def test_a_series_without_a_value_is_empty_after_filling() -> None:
    assert len(fill(np.full(5, np.nan), 7, max_gap=14).values) == 0


@given(st.lists(st.booleans(), max_size=60))
def test_runs_partition_the_mask(mask: list[bool]) -> None:
    array = np.array(mask, bool)
    rebuilt = np.zeros(len(array), bool)
    for lo, hi in runs(array):
        assert array[lo:hi].all() and hi > lo
        rebuilt[lo:hi] = True
    assert (rebuilt == array).all()


@pytest.mark.parametrize(
    "index",
    [
        pd.RangeIndex(3),
        pd.DatetimeIndex(["2026-01-01", "2026-01-02", "2026-01-04"]),
        pd.DatetimeIndex(["2026-01-01"] * 3),
    ],
    ids=["no time", "irregular", "duplicates"],
)
def test_an_index_that_is_not_a_regular_time_is_refused(index: pd.Index) -> None:
    with pytest.raises(BadInput, match="index"):
        checked(pd.Series([1.0, 2.0, 3.0], index))
