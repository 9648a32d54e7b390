"""`next_month`: calendar totals with intervals of the sum."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.units import epoch_ms
from forecasting import MonthForecast, next_month


def tenant(n: int = 120, seed: int = 3, start: str = "2026-01-05") -> pd.Series:
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    values = (100 + 0.5 * t) * (1 - 0.3 * (t % 7 >= 5)) * np.exp(rng.normal(0, 0.05, n))
    return pd.Series(values, pd.date_range(start, periods=n, tz="UTC"))


def ask(series: pd.Series, as_of: datetime | int | None = None, seed: int = 0, **more: object) -> MonthForecast:
    when = as_of if as_of is not None else (series.index[-1] + pd.Timedelta("1D")).to_pydatetime()
    return next_month(series, as_of=when, rng=np.random.default_rng(seed), **more)  # type: ignore[arg-type]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.integers(40, 130))
def test_intervals_nest_around_the_mean(seed: int, n: int) -> None:
    month = ask(tenant(n, seed), paths=300)
    for total in (month.current, month.next):
        assert total is not None
        assert 0 <= total.lower_95 <= total.lower_80 <= total.mean <= total.upper_80 <= total.upper_95


def test_the_months_are_utc_calendar_months() -> None:
    month = ask(tenant(), datetime(2026, 4, 20, tzinfo=UTC))
    assert month.current is not None and month.next is not None
    assert month.current.start_ms == epoch_ms("2026-04-01")
    assert month.current.end_ms == month.next.start_ms == epoch_ms("2026-05-01")
    assert month.next.end_ms == epoch_ms("2026-06-01")


def test_december_is_followed_by_january() -> None:
    month = ask(tenant(start="2026-08-20"), datetime(2026, 12, 10, tzinfo=UTC))
    assert month.next is not None and month.next.start_ms == epoch_ms("2027-01-01")


def test_measured_days_of_this_month_count_unchanged() -> None:
    series = tenant()
    month = ask(series, datetime(2026, 4, 20, tzinfo=UTC))
    assert month.current is not None
    assert month.current.to_date == pytest.approx(series["2026-04-01":"2026-04-19"].sum())  # type: ignore[misc]
    assert (month.current.known_days, month.current.filled_days, month.current.missing_days) == (19, 0, 0)
    assert month.current.mean > month.current.to_date


@pytest.mark.slow
def test_the_partial_day_of_as_of_and_later_days_are_ignored() -> None:
    series = tenant()
    spoiled = series.copy()
    spoiled["2026-04-20":] = 1e9  # type: ignore[misc]
    noon = datetime(2026, 4, 20, 12, tzinfo=UTC)
    assert ask(series, noon).next == ask(spoiled, noon).next


@pytest.mark.slow
def test_as_of_is_the_same_instant_in_any_zone_or_as_epoch_ms() -> None:
    series = tenant()
    utc = datetime(2026, 4, 20, 22, tzinfo=UTC)
    elsewhere = utc.astimezone(timezone(timedelta(hours=5)))
    assert ask(series, utc).next == ask(series, elsewhere).next == ask(series, epoch_ms("2026-04-20T22:00")).next


@pytest.mark.slow
def test_a_seed_determines_the_answer_and_others_are_close() -> None:
    series = tenant()
    a, b, c = ask(series, seed=1), ask(series, seed=1), ask(series, seed=2)
    assert a == b or (a.next, a.current, a.sums) == (b.next, b.current, b.sums)
    assert a.next is not None and c.next is not None
    assert a.next.mean == c.next.mean
    assert a.next.upper_80 == pytest.approx(c.next.upper_80, rel=0.05)


@pytest.mark.slow
def test_scaling_the_series_scales_the_totals() -> None:
    series = tenant()
    a, b = ask(series).next, ask(series * 3.6e12).next
    assert a is not None and b is not None
    assert (b.mean, b.lower_95, b.upper_80) == pytest.approx(
        tuple(3.6e12 * v for v in (a.mean, a.lower_95, a.upper_80))
    )


@pytest.mark.slow
def test_a_missing_day_of_this_month_is_filled_and_reported() -> None:
    series = tenant()
    series.loc["2026-04-08"] = np.nan
    month, complete = ask(series, datetime(2026, 4, 20, tzinfo=UTC)), ask(tenant(), datetime(2026, 4, 20, tzinfo=UTC))
    assert month.current is not None and complete.current is not None
    assert (month.current.known_days, month.current.filled_days) == (18, 1)
    assert month.current.mean == pytest.approx(complete.current.mean, rel=0.02)


def test_missing_recent_days_are_forecast() -> None:
    late = tenant().loc[:"2026-04-15"]  # type: ignore[misc]
    month = ask(late, datetime(2026, 4, 20, tzinfo=UTC))
    assert month.current is not None and month.current.known_days == 15 and month.current.missing_days == 0


def test_a_stale_series_is_withheld() -> None:
    month = ask(tenant(), datetime(2026, 6, 1, tzinfo=UTC))
    assert month.next is None and "older than 2026-06-01" in month.withheld


def test_a_forecast_is_withheld_below_a_billing_cycle() -> None:
    month = ask(tenant(20))
    assert (month.current, month.next, month.sums) == (None, None, None)
    assert month.withheld.startswith("history is too short: 20 days")


def test_a_forecast_is_withheld_without_history() -> None:
    nothing = pd.Series([], index=pd.DatetimeIndex([], tz="UTC"), dtype=float)
    assert "too short" in ask(nothing, datetime(2026, 6, 1, tzinfo=UTC)).withheld


def test_an_hourly_series_is_refused() -> None:
    hourly = pd.Series(1.0, pd.date_range("2026-01-01", periods=2000, freq="h", tz="UTC"))
    with pytest.raises(BadInput, match="daily"):
        ask(hourly)


def test_the_sums_are_backtested_over_28_days_where_history_allows() -> None:
    long, short = ask(tenant(120)).sums, ask(tenant(45)).sums
    assert long is not None and short is not None
    assert (long.days, short.days) == (28, 15)
    assert long.folds > short.folds >= 1
    assert long.widened >= 1 and 0 <= long.coverage_80 <= long.coverage_95 <= 1


def test_a_constant_tenant_has_a_certain_month() -> None:
    flat = pd.Series(10.0, pd.date_range("2026-01-05", periods=80, tz="UTC"))
    month = ask(flat, datetime(2026, 3, 26, tzinfo=UTC))
    assert month.next is not None and month.next.mean == pytest.approx(300.0) == month.next.upper_95
    assert month.sums is not None and month.sums.coverage_80 == 1.0


@pytest.mark.slow
def test_totals_of_tenants_with_a_known_law_are_covered_as_stated() -> None:
    inside = []
    for seed in range(30):
        series = tenant(190, seed)
        month = ask(series, datetime(2026, 5, 5, tzinfo=UTC), paths=500).next
        assert month is not None
        actual = series["2026-06-01":"2026-06-30"].sum()  # type: ignore[misc]
        inside.append((month.lower_80 <= actual <= month.upper_80, month.lower_95 <= actual <= month.upper_95))
    covered = np.mean(inside, axis=0)
    assert covered[0] >= 0.65 and covered[1] >= 0.85
