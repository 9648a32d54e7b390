"""Planted anomalies are detected once, with their extent. Ordinary series raise none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from forecasting import Anomaly, anomalies, detect

HOURS = 24 * 7 * 10


def fleet(n: int = HOURS, seed: int = 5) -> pd.Series:
    """Hourly, a daily and a weekly rhythm, growth, 5 % noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    base = (1 + 0.4 * np.sin(2 * np.pi * t / 24)) * (1 - 0.3 * (t // 24 % 7 >= 5)) * np.exp(0.0001 * t)
    return pd.Series(
        100 * base * np.exp(rng.normal(0, 0.05, n)), pd.date_range("2026-01-05", periods=n, freq="h", tz="UTC")
    )


def at(series: pd.Series, i: int) -> int:
    return int(series.index[i].timestamp() * 1000)


@pytest.mark.parametrize("causal", [False, True])
def test_an_ordinary_fleet_has_no_anomaly(causal: bool) -> None:
    assert anomalies(fleet(), season=168, causal=causal) == []


@pytest.mark.parametrize("causal", [False, True])
def test_a_spike_is_one_episode_with_its_extent_and_excess(causal: bool) -> None:
    series = fleet()
    usual = series.iloc[1200:1206].sum()
    series.iloc[1200:1206] *= 2
    (episode,) = anomalies(series, season=168, unit="USD", causal=causal)
    assert (episode.start_ms, episode.end_ms) == (at(series, 1200), at(series, 1206))
    assert (episode.kind, episode.direction, episode.ongoing) == ("spike", "up", False)
    assert episode.excess == pytest.approx(usual, rel=0.15)
    assert episode.actual == pytest.approx(2 * episode.expected, rel=0.15)
    assert "USD per step" in episode.reason and "above the expected" in episode.reason and "6 hours" in episode.reason


def test_a_drop_is_an_anomaly() -> None:
    series = fleet()
    series.iloc[1000:1010] *= 0.2
    (episode,) = anomalies(series, season=168)
    assert episode.direction == "down" and episode.excess < 0


@pytest.mark.parametrize("causal", [False, True])
def test_a_level_shift_is_one_episode_until_it_is_the_norm(causal: bool) -> None:
    series = fleet()
    series.iloc[1000:] *= 1.6
    episodes = anomalies(series, season=168, causal=causal)
    shift = episodes[0]
    assert shift.kind == "level shift" and shift.direction == "up"
    assert abs(shift.start_ms - at(series, 1000)) <= 12 * 3_600_000
    assert shift.end_ms - shift.start_ms > 7 * 86_400_000
    assert shift.actual == pytest.approx(1.6 * shift.expected, rel=0.15)


def test_a_small_lasting_shift_is_detected() -> None:
    rng = np.random.default_rng(0)
    series = pd.Series(1 + rng.normal(0, 0.2, HOURS), pd.date_range("2026-01-05", periods=HOURS, freq="h", tz="UTC"))
    series.iloc[1200:1300] += 0.5  # two and a half standard deviations
    episodes = anomalies(series, season=168)
    assert [f.kind for f in episodes] == ["level shift"]
    assert episodes[0].start_ms <= at(series, 1224) and episodes[0].end_ms >= at(series, 1276)


def test_a_regression_of_daily_joules_per_token_is_detected() -> None:
    rng = np.random.default_rng(1)
    series = pd.Series(0.4 * np.exp(rng.normal(0, 0.03, 120)), pd.date_range("2026-01-05", periods=120, tz="UTC"))
    series.iloc[80:90] *= 1.35
    (episode,) = anomalies(series, season=7, unit="J/token")
    assert (episode.start_ms, episode.end_ms) == (at(series, 80), at(series, 90))
    assert episode.kind == "level shift"


def test_an_episode_at_the_end_is_ongoing() -> None:
    series = fleet()
    series.iloc[-3:] *= 3
    (episode,) = anomalies(series, season=168, causal=True)
    assert episode.ongoing


def test_a_change_below_the_minimum_effect_is_ignored() -> None:
    rng = np.random.default_rng(2)
    series = pd.Series(100 + rng.normal(0, 0.1, HOURS), pd.date_range("2026-01-05", periods=HOURS, freq="h", tz="UTC"))
    series.iloc[900:905] += 10  # a hundred standard deviations, a tenth of the level
    assert anomalies(series, season=24) == []
    assert len(anomalies(series, season=24, min_effect=0.05)) == 1


@pytest.mark.parametrize("causal", [False, True])
def test_missing_points_are_ignored(causal: bool) -> None:
    series = fleet()
    series.iloc[600:640] = np.nan
    series.iloc[1201::97] = np.nan
    assert anomalies(series, season=168, causal=causal) == []
    series.iloc[1300:1306] *= 2
    assert len(anomalies(series, season=168, causal=causal)) == 1


@settings(max_examples=15, deadline=None)
@given(st.integers(3 * 168 + 50, HOURS - 1), st.integers(0, 20))
def test_causal_verdicts_do_not_change_when_data_is_appended(cut: int, seed: int) -> None:
    series = fleet(seed=seed)
    series.iloc[700:710] *= 2
    series.iloc[1100:1200] *= 1.7
    full, part = detect(series, season=168, causal=True), detect(series.iloc[:cut], season=168, causal=True)
    assert np.array_equal(full.scores[:cut], part.scores, equal_nan=True)
    assert np.array_equal(full.expected[:cut], part.expected, equal_nan=True)
    before = {e.start_ms for e in full.episodes if e.start_ms < at(series, cut)}
    assert {e.start_ms for e in part.episodes} == before


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([1e-6, 0.5, 3.6e12]), st.booleans())
def test_the_unit_does_not_change_the_episodes(factor: float, causal: bool) -> None:
    series = fleet()
    series.iloc[1100:1200] *= 1.7

    def extents(episodes: list[Anomaly]) -> list[Any]:
        return [(e.start_ms, e.end_ms, e.kind, round(e.score, 6)) for e in episodes]

    assert extents(anomalies(series, season=168, causal=causal)) == extents(
        anomalies(series * factor, season=168, causal=causal)
    )


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_single_departure_from_a_constant_series_is_detected(value: float) -> None:
    series = pd.Series(value, pd.date_range("2026-01-05", periods=200, freq="h", tz="UTC"))
    assert anomalies(series, season=24) == []
    series.iloc[150] = value + 5
    assert [e.start_ms for e in anomalies(series, season=24)] == [at(series, 150)]


def test_too_short_a_history_is_reported() -> None:
    result = detect(fleet(300), season=168)
    assert result.episodes == () and result.judged == 0
    assert result.withheld == "history is too short: 300 known points, 504 needed"


def test_a_causal_judge_reports_too_short_a_past() -> None:
    result = detect(fleet(3 * 168 + 10), season=168, causal=True)
    assert result.judged == 0 and "no point has enough history" in result.withheld


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("season", {"season": 1}),
        ("threshold", {"season": 7, "threshold": 0}),
        ("min_effect", {"season": 7, "min_effect": -1}),
    ],
)
def test_an_invalid_option_is_refused(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as error:
        anomalies(fleet(), **options)
    assert error.value.field == field


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))), min_size=0, max_size=80), st.booleans())
def test_any_series_gives_finite_ordered_episodes(values: list[float], causal: bool) -> None:
    series = pd.Series(np.array(values, float), pd.date_range("2026-01-05", periods=len(values), tz="UTC"))
    episodes = anomalies(series, season=7, causal=causal)
    for e in episodes:
        assert e.start_ms < e.end_ms and np.isfinite([e.expected, e.actual, e.excess, e.score]).all()
        assert 0 < e.score <= 1000
    assert [e.start_ms for e in episodes] == sorted(e.start_ms for e in episodes)
