"""Every candidate keeps the same invariants, or states why it cannot fit."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.units import MS_PER_DAY, MS_PER_HOUR
from forecasting import ets
from forecasting.ets import Ets, MstlEts
from forecasting.model_interface import CannotFit, ForecastModel, conformal_quantile
from forecasting.models import Pool, candidates
from forecasting.rules import RunRate, SeasonalRule
from forecasting.series import F64

NAIVE = SeasonalRule("seasonal_naive", 7, 1)
POOL = Pool((NAIVE, RunRate(28), Ets()), (0.2, 0.3, 0.5))


def weekly(n: int = 120, growth: float = 0.002, noise: float = 0.05) -> F64:
    rng = np.random.default_rng(7)
    t = np.arange(n)
    return np.exp(growth * t) * (1 - 0.3 * (t % 7 >= 5)) * np.exp(rng.normal(0, noise, n))


@pytest.mark.parametrize("model", [*candidates((7,), MS_PER_DAY)[:4], POOL], ids=lambda m: m.name)
def test_intervals_nest_around_the_mean_and_paths_agree_with_them(model: ForecastModel) -> None:
    fitted = model.fit(weekly(), (7,))
    p = fitted.predict(40)
    assert p.mean.shape == (40,) and p.lower.shape == p.upper.shape == (2, 40)
    assert (p.lower[1] <= p.lower[0]).all() and (p.lower[0] <= p.mean).all()
    assert (p.mean <= p.upper[0]).all() and (p.upper[0] <= p.upper[1]).all()
    paths = fitted.paths(40, 4000, np.random.default_rng(1))
    assert paths.shape == (4000, 40)
    assert np.allclose(paths.mean(axis=0), p.mean, atol=0.03)
    inside = ((paths >= p.lower[0]) & (paths <= p.upper[0])).mean()
    assert 0.6 < inside < 0.97
    assert fitted.converged


def test_seasonal_naive_repeats_the_last_season() -> None:
    values = weekly()
    assert NAIVE.fit(values, (7,)).predict(16).mean.tolist() == np.resize(values[-7:], 16).tolist()


def test_seasonal_median_ignores_one_unusual_week() -> None:
    values = np.tile(np.arange(1.0, 8.0), 6)
    values[-7:] *= 10
    assert SeasonalRule("seasonal_median", 7, 4).fit(values, (7,)).predict(7).mean.tolist() == list(range(1, 8))


def test_run_rate_is_the_mean_of_the_trailing_window() -> None:
    values = weekly()
    mean = RunRate(28).fit(values, (7,)).predict(3).mean
    assert np.allclose(mean, values[-28:].mean())


def test_a_baseline_without_errors_has_intervals_without_width() -> None:
    p = NAIVE.fit(np.tile(np.arange(7.0), 5), (7,)).predict(10)
    assert (p.upper - p.lower == 0).all()


def test_the_error_of_a_baseline_grows_beyond_its_tested_horizon() -> None:
    p = NAIVE.fit(weekly(28), (7,)).predict(60)
    width = p.upper[0] - p.lower[0]
    assert width[59] > width[13]


def test_the_errors_of_the_season_rule_are_those_of_its_own_forecasts() -> None:
    values = weekly(60)
    rule = SeasonalRule("seasonal_median", 7, 3)
    fitted = rule.fit(values, (7,))
    errors = fitted.errors  # type: ignore[attr-defined]
    for origin in (21, 30, 21 + len(errors) - 1):
        mean = rule.fit(values[:origin], (7,)).predict(errors.shape[1]).mean if origin >= 28 else None
        if mean is not None:
            assert np.allclose(values[origin : origin + errors.shape[1]] - mean, errors[origin - 21])


def test_mstl_follows_two_seasons() -> None:
    t = np.arange(24 * 7 * 4)
    rng = np.random.default_rng(0)
    values = 2 + np.sin(2 * np.pi * t / 24) + 0.5 * (t // 24 % 7 >= 5) + rng.normal(0, 0.02, len(t))
    truth = 2 + np.sin(2 * np.pi * (t[:168] + len(t)) / 24) + 0.5 * ((t[:168] + len(t)) // 24 % 7 >= 5)
    assert np.abs(MstlEts().fit(values, (24, 168)).predict(168).mean - truth).mean() < 0.05


@pytest.mark.parametrize(
    ("model", "values", "why"),
    [
        (Ets(), np.ones(60), "constant"),
        (Ets(), np.arange(12.0), "needs 16 points"),
        (MstlEts(), weekly(), "two seasons"),
        (NAIVE, np.arange(10.0), "needs 14 points"),
    ],
)
def test_a_candidate_that_cannot_fit_states_the_reason(model: ForecastModel, values: F64, why: str) -> None:
    with pytest.raises(CannotFit, match=why):
        model.fit(values, (7,))


def test_an_optimiser_that_stops_early_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(ets.ETSModel):  # the real model, given one iteration
        def fit(self, **options: object) -> object:
            return super().fit(maxiter=1, **options)

    monkeypatch.setattr(ets, "ETSModel", Impatient)
    assert not Ets().fit(weekly(), (7,)).converged


def test_hourly_candidates_include_both_naives_and_daily_ones_no_yearly_naive() -> None:
    assert [m.name for m in candidates((24, 168), MS_PER_HOUR)][:3] == [
        "seasonal_naive",
        "seasonal_naive_168",
        "run_rate",
    ]
    assert "seasonal_naive_365" not in [m.name for m in candidates((7, 365), MS_PER_DAY)]


def test_conformal_quantile_takes_the_ceil_of_n_plus_one() -> None:
    assert conformal_quantile(np.arange(1.0, 10.0), 0.8) == 8.0  # ceil(10 x 0.8) = 8th of 9
    assert conformal_quantile(np.arange(1.0, 4.0), 0.95) == 3.0  # beyond the largest error: the largest
