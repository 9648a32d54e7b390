"""Which candidates there are, and their pool. Baselines come first and are always scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contracts.units import MS_PER_DAY
from forecasting.ets import Ets, MstlEts
from forecasting.protocol import Fitted, Model, Prediction
from forecasting.rules import RunRate, SeasonalRule
from forecasting.series import F64

RUN_RATE_DAYS = 28
"""Four whole weeks, so that the mean is not tilted by which weekdays it holds."""

NAIVE = "seasonal_naive"
POOL = "pool"


@dataclass(frozen=True, slots=True)
class Pool:
    """The weighted mean of candidates: averages of unlike forecasts beat choosing one (Bates & Granger 1969; M4, 2020).

    `weights` sum to 1. Half-widths are averaged likewise, which is right for errors that go together and wide for
    others; a path is one member's, drawn by weight and moved to the pooled mean.
    """

    members: tuple[Model, ...]
    weights: tuple[float, ...]
    name: str = POOL

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        return _PoolFit(tuple(m.fit(values, seasons) for m in self.members), self.weights)


def pooled(parts: Sequence[Prediction], weights: Sequence[float]) -> Prediction:
    """The weighted mean of predictions, bounds included."""
    w = np.asarray(weights)
    mean, lower, upper = (
        np.tensordot(w, np.stack([getattr(p, name) for p in parts]), 1) for name in ("mean", "lower", "upper")
    )
    return Prediction(mean, lower, upper)


def candidates(seasons: tuple[int, ...], step_ms: int) -> tuple[Model, ...]:
    """Every candidate for a series of this step, the baselines first: on a tie the earlier, simpler one wins.

    Rules that repeat a phase stop at a week: a year is no whole number of weeks, so its days fall on other weekdays.
    """
    weekly = [s for s in seasons if s * step_ms <= 7 * MS_PER_DAY] or [seasons[0]]
    naive = [SeasonalRule(f"{NAIVE}_{s}" if s != seasons[0] else NAIVE, s, 1) for s in weekly]
    run_rate = RunRate(max(1, RUN_RATE_DAYS * MS_PER_DAY // step_ms))
    median = SeasonalRule("seasonal_median", weekly[-1], 4)
    return (*naive, run_rate, median, Ets(), MstlEts())


def is_baseline(name: str) -> bool:
    """Whether a candidate is a yardstick only: seasonal naive or run rate."""
    return name.startswith((NAIVE, "run_rate"))


@dataclass(frozen=True, slots=True)
class _PoolFit:
    members: tuple[Fitted, ...]
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
