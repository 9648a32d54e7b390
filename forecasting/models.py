"""Candidate models and their pool. The baselines are listed first and always scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.units import MS_PER_DAY
from forecasting.ets import Ets, MstlEts
from forecasting.model_interface import FittedModel, ForecastModel, Prediction
from forecasting.rules import RunRate, SeasonalRule
from forecasting.series import F64

RUN_RATE_DAYS = 28
"""Four full weeks, so that every weekday has the same weight in the mean."""

NAIVE = "seasonal_naive"
POOL = "pool"


@dataclass(frozen=True, slots=True)
class Pool:
    """Weighted mean of models: averaging unlike forecasts beats choosing one (Bates & Granger 1969; M4, 2020).

    `weights` sum to 1. Half-widths are averaged too: correct for correlated errors, and too wide for others. A path
    is drawn from one member, picked by weight, and shifted to the pooled mean.
    """

    members: tuple[ForecastModel, ...]
    weights: tuple[float, ...]
    name: str = POOL

    def fit(self, values: F64, seasons: tuple[int, ...]) -> FittedModel:
        return _PoolFit(tuple(m.fit(values, seasons) for m in self.members), self.weights)


def pooled(parts: Sequence[Prediction], weights: Sequence[float]) -> Prediction:
    """Return the weighted mean of predictions, bounds included."""
    w = np.asarray(weights)
    mean, lower, upper = (
        np.tensordot(w, np.stack([getattr(p, name) for p in parts]), 1) for name in ("mean", "lower", "upper")
    )
    return Prediction(mean, lower, upper)


def candidates(seasons: tuple[int, ...], step_ms: int) -> tuple[ForecastModel, ...]:
    """Return every candidate for a series of this step, baselines first: the earlier, simpler one wins a tie.

    Rules that repeat a phase use seasons of up to a week. A year is not a multiple of a week, so its days fall on
    other weekdays.
    """
    weekly = [s for s in seasons if s * step_ms <= 7 * MS_PER_DAY] or [seasons[0]]
    naive = [SeasonalRule(f"{NAIVE}_{s}" if s != seasons[0] else NAIVE, s, 1) for s in weekly]
    run_rate = RunRate(max(1, RUN_RATE_DAYS * MS_PER_DAY // step_ms))
    median = SeasonalRule("seasonal_median", weekly[-1], 4)
    return (*naive, run_rate, median, Ets(), MstlEts())


def is_baseline(name: str) -> bool:
    """Return True for a candidate that only serves as a yardstick: seasonal naive or run rate."""
    return name.startswith((NAIVE, "run_rate"))


@dataclass(frozen=True, slots=True)
class _PoolFit:
    members: tuple[FittedModel, ...]
    weights: tuple[float, ...]

    @property
    def converged(self) -> bool:
        return all(m.converged for m in self.members)

    def predict(self, horizon: int) -> Prediction:
        return pooled([m.predict(horizon) for m in self.members], self.weights)

    def paths(self, horizon: int, n: int, rng: np.random.Generator) -> F64:
        out = np.empty((n, horizon))
        means = [m.predict(horizon).mean for m in self.members]
        centre = np.tensordot(np.asarray(self.weights), np.stack(means), 1)
        share = rng.multinomial(n, self.weights)
        ends = np.cumsum(share)
        for member, mean, count, end in zip(self.members, means, share, ends, strict=True):
            if count:
                out[end - count : end] = member.paths(horizon, int(count), rng) - mean + centre
        return out
