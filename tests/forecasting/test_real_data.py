"""Real recordings, held out. The bounds are sanity checks, well below the measured values (docs/forecasting.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.forecast import anomaly_score, ercot, month_trial, opsd, synthetic, trial
from forecasting import anomalies, forecast
from tests.support.work import calls_of


@pytest.mark.slow
def test_german_consumption_beats_seasonal_naive_and_run_rate_on_held_out_months(shared_data: Path) -> None:
    trials = trial(opsd(shared_data), history=365, horizon=30, season=7, origins=16)
    print("MASE", np.mean(trials.mase), "seasonal naive", np.mean(trials.naive), "run rate", np.mean(trials.run_rate))
    assert np.mean(trials.mase) < np.mean(trials.naive) < np.mean(trials.run_rate)


@pytest.mark.slow
def test_german_consumption_is_covered_as_stated(shared_data: Path) -> None:
    trials = trial(opsd(shared_data), history=120, horizon=30, season=7, origins=16)
    covered = np.mean(trials.inside, axis=0)
    print("coverage", covered)
    assert 0.65 < covered[0] < 0.92 and 0.85 < covered[1] <= 1.0


@pytest.mark.slow
def test_ercot_hours_beat_seasonal_naive(shared_data: Path) -> None:
    trials = [trial(s, history=672, horizon=48, season=24, origins=3) for s in ercot(shared_data).values()]
    mase, naive = (np.mean([getattr(m, name) for m in trials]) for name in ("mase", "naive"))
    covered = np.mean([np.mean(m.inside, axis=0) for m in trials], axis=0)
    print("MASE", mase, "seasonal naive", naive, "coverage", covered)
    assert mase < naive
    assert 0.65 < covered[0] < 0.95 and covered[1] > 0.85


@pytest.mark.slow
def test_next_months_consumption_is_inside_its_interval_most_of_the_time(shared_data: Path) -> None:
    got = month_trial(opsd(shared_data), history=180, origins=12).mean(axis=0)
    print("coverage 80, 95, error, run rate's", got)
    assert got[0] >= 0.65 and got[1] >= 0.8 and got[2] < 0.1


@pytest.mark.parametrize(("causal", "least_hits"), [(False, 14), (True, 10)])
def test_numenta_anomalies_are_found_at_a_bounded_false_alarm_rate(
    shared_data: Path, causal: bool, least_hits: int
) -> None:
    hits, windows, false, weeks = anomaly_score(shared_data, causal=causal)
    print(f"{hits} of {windows} windows, {false / weeks:.2f} episodes a week outside them")
    assert windows == 20 and hits >= least_hits
    assert false / weeks < 1.5


def test_ordinary_loads_raise_almost_no_alarm(shared_data: Path) -> None:
    assert sum(len(anomalies(s, season=168)) for s in ercot(shared_data).values()) <= 3


def test_a_forecast_and_a_search_for_anomalies_take_bounded_work() -> None:
    """About three times the measured work: 174,000 calls, and 6,400 for four months of hours. No loop over hours."""
    tenant, hours = synthetic(1, 120), synthetic(0, 2928)
    assert calls_of(lambda: forecast(tenant, 30, season=7)) < 500_000
    hours.index = pd.date_range("2026-01-05", periods=2928, freq="h", tz="UTC")
    assert calls_of(lambda: anomalies(hours, season=168)) < 20_000
