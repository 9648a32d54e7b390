"""`forecast`: properties of any series, and cases with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY
from forecasting import Forecast, forecast
from forecasting.backtest import backtest, origins
from forecasting.models import candidates
from tests.support.examples import examples


def of(values: object, start: str = "2026-01-05") -> pd.Series:
    array = np.asarray(values, float)
    return pd.Series(array, pd.date_range(start, periods=len(array), tz="UTC"))


def tenant(n: int = 120, seed: int = 3) -> pd.Series:
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    return of((100 + 0.5 * t) * (1 - 0.3 * (t % 7 >= 5)) * np.exp(rng.normal(0, 0.05, n)))


def means(result: Forecast) -> np.ndarray:
    return np.array([p.mean for p in result.points])


def assert_ordered(result: Forecast) -> None:
    for p in result.points:
        assert p.lower_95 <= p.lower_80 <= p.mean <= p.upper_80 <= p.upper_95, p
        assert all(math.isfinite(v) for v in (p.lower_95, p.upper_95))


values = st.one_of(
    st.lists(st.floats(0, 1e6), min_size=28, max_size=50),
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 5.0, float("nan")]), min_size=28, max_size=50),
    st.lists(st.floats(-100, 100), min_size=28, max_size=50),
)


@settings(max_examples=examples(40), deadline=None)
@given(values)
def test_any_finite_history_gives_ordered_finite_intervals_or_a_reason(history: list[float]) -> None:
    result = forecast(of(history), 10, season=7)
    assert bool(result.points) != bool(result.withheld)
    assert_ordered(result)
    known = [v for v in history if not math.isnan(v)]
    if result.points and result.history_points == len(history) and min(known) >= 0:
        assert min(p.lower_95 for p in result.points) >= 0


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 50), st.sampled_from([1e-9, 0.37, 1000.0, 3.6e12]))
def test_scaling_the_series_scales_the_forecast(seed: int, factor: float) -> None:
    series = tenant(70, seed)
    plain, scaled = forecast(series, 14, season=7), forecast(series * factor, 14, season=7)
    assert plain.model == scaled.model
    assert np.allclose(means(plain) * factor, means(scaled), rtol=1e-6)
    widths = [np.array([p.upper_95 - p.lower_95 for p in m.points]) for m in (plain, scaled)]
    assert np.allclose(widths[0] * factor, widths[1], rtol=1e-6)


def test_the_same_series_gives_the_same_forecast() -> None:
    a, b = (forecast(tenant(), 30, season=7, unit="kWh") for _ in range(2))
    assert (a.points, a.backtest.scores) == (b.points, b.backtest.scores)  # type: ignore[union-attr]


def test_steps_follow_the_last_day_and_the_unit_is_kept() -> None:
    series = tenant()
    result = forecast(series, 3, season=7, unit="kWh")
    last = int(series.index[-1].timestamp() * 1000)
    assert [p.t_ms for p in result.points] == [last + (i + 1) * MS_PER_DAY for i in range(3)]
    assert result.unit == "kWh"


def test_a_weekly_rhythm_with_growth_is_followed() -> None:
    mean = means(forecast(tenant(), 28, season=7))
    t = np.arange(120, 148)
    truth = (100 + 0.5 * t) * (1 - 0.3 * (t % 7 >= 5))
    assert np.abs(mean / truth - 1).mean() < 0.06


def test_a_constant_series_is_forecast_as_itself_without_width() -> None:
    result = forecast(of([42.0] * 60), 20, season=7)
    assert all(p.mean == p.lower_95 == p.upper_95 == pytest.approx(42.0) for p in result.points)


def test_a_tenant_without_use_is_forecast_to_use_nothing() -> None:
    result = forecast(of([0.0] * 60), 20, season=7)
    assert {(p.mean, p.upper_95) for p in result.points} == {(0.0, 0.0)}


@pytest.mark.parametrize("n", [0, 1, 27])
def test_below_a_billing_cycle_a_daily_forecast_is_withheld_with_the_reason(n: int) -> None:
    result = forecast(tenant(120).iloc[:n], 30, season=7)
    assert (result.points, result.model, result.backtest) == ((), "", None)
    assert (
        result.withheld
        == f"history is too short: {n} days since the last long gap; 28 needed, three seasons or a billing cycle"
    )


def test_twenty_eight_days_are_enough() -> None:
    assert len(forecast(tenant(28), 30, season=7).points) == 30


def test_scattered_gaps_are_filled_and_counted() -> None:
    series = tenant()
    series.iloc[[10, 40, 41, 77]] = np.nan
    result = forecast(series, 30, season=7)
    assert result.filled_points == 4
    assert np.abs(means(result) / means(forecast(tenant(), 30, season=7)) - 1).max() < 0.05


def test_a_mostly_missing_history_is_withheld() -> None:
    series = tenant()
    series.iloc[::3] = np.nan
    assert "too broken" in forecast(series, 30, season=7).withheld


def test_history_before_a_long_outage_is_not_used() -> None:
    series = tenant()
    series.iloc[50:70] = np.nan
    assert forecast(series, 7, season=7).history_points == 50


@pytest.mark.parametrize(("horizon", "season", "field"), [(0, 7, "horizon"), (10**6, 7, "horizon"), (5, 1, "season")])
def test_an_invalid_question_is_refused(horizon: int, season: int, field: str) -> None:
    with pytest.raises(BadInput) as error:
        forecast(tenant(), horizon, season=season)
    assert error.value.field == field


def test_infinity_is_refused() -> None:
    series = tenant()
    series.iloc[3] = np.inf
    with pytest.raises(BadInput, match="finite"):
        forecast(series, 5, season=7)


def test_both_baselines_are_always_scored_and_skipped_candidates_state_the_reason() -> None:
    result = forecast(tenant(), 30, season=7)
    assert result.backtest is not None
    by_name = {s.name: s for s in result.backtest.scores}
    assert {"seasonal_naive", "run_rate", "pool"} <= set(by_name)
    assert by_name["seasonal_naive"].folds == by_name["run_rate"].folds == result.backtest.folds == 8
    assert by_name["mstl_ets"].mase is None and "two seasons" in by_name["mstl_ets"].note
    assert result.model == result.backtest.winner


def test_a_long_horizon_states_its_tested_length() -> None:
    result = forecast(tenant(60), 90, season=7)
    assert len(result.points) == 90
    assert result.backtest is not None and result.backtest.tested_horizon == 20


def test_an_exact_weekly_pattern_is_left_to_the_simplest_candidate() -> None:
    result = forecast(of(np.tile([5, 5, 5, 5, 5, 2, 1], 12)), 14, season=7)
    assert result.model == "seasonal_naive"
    assert np.allclose(means(result), np.tile([5, 5, 5, 5, 5, 2, 1], 2))


def test_mase_is_the_error_over_the_seasonal_naive_error_of_the_first_training_part() -> None:
    history = tenant().to_numpy() / 100
    tested = backtest(history, candidates((7,), MS_PER_DAY), (7,), 30)
    assert tested is not None
    cuts, length = origins(120, 30, (7,))
    errors = np.mean([np.abs(history[c : c + length] - np.resize(history[c - 7 : c], length)) for c in cuts])
    first = history[: cuts[-1]]
    assert tested.score("seasonal_naive").mase == pytest.approx(errors / np.abs(first[7:] - first[:-7]).mean())


@given(st.integers(28, 500), st.integers(1, 400), st.sampled_from([(7,), (2,), (7, 30)]))
def test_no_fold_sees_the_future_or_trains_on_too_little(n: int, horizon: int, seasons: tuple[int, ...]) -> None:
    cuts, tested = origins(n, horizon, seasons)
    for cut in cuts:
        assert 2 * seasons[-1] < cut and cut >= n // 3 and cut + tested <= n
    assert len(cuts) <= 8 and len(set(cuts)) == len(cuts) and tested <= horizon


@pytest.mark.slow
def test_calibrated_intervals_cover_their_share_of_a_future_from_the_same_law() -> None:
    inside = []
    for seed in range(25):
        series = tenant(150, seed)
        result = forecast(series.iloc[:120], 30, season=7)
        actual = series.iloc[120:].to_numpy()
        inside.append(
            [
                [p.lower_80 <= a <= p.upper_80, p.lower_95 <= a <= p.upper_95]
                for p, a in zip(result.points, actual, strict=True)
            ]
        )
    covered = np.array(inside).mean(axis=(0, 1))
    assert 0.70 < covered[0] < 0.92 and 0.88 < covered[1] <= 1.0
