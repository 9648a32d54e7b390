"""Models without parameters: seasonal rules, among them the seasonal naive, and the run rate of cost dashboards.

Seasonal naive and run rate are the two baselines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.model_interface import LEVELS, CannotFit, FittedModel, Prediction, conformal_quantile
from forecasting.series import F64


@dataclass(frozen=True, slots=True)
class SeasonalRule:
    """Median of the last `back` values of the same phase. `back=1` repeats the last season: seasonal naive.

    Its errors are those that it would have made from every past origin.
    """

    name: str
    season: int
    back: int

    def fit(self, values: F64, seasons: tuple[int, ...]) -> FittedModel:
        season, n = self.season, len(values)
        back = min(self.back, n // season - 1)
        if back < 1:
            raise CannotFit(f"needs {2 * season} points, has {n}")
        # medians[i] predicts step back * season + i from the `back` values of the same phase before it.
        span = n - (back - 1) * season
        medians = np.median([values[k * season : k * season + span] for k in range(back)], axis=0)
        room = n - back * season
        length = max(min(season, room), room // 2)
        first = np.arange(room - length + 1)
        ahead = np.arange(length)
        errors = values[back * season + first[:, None] + ahead] - medians[first[:, None] + ahead % season]
        return _Empirical(medians[-season:], errors, season)


@dataclass(frozen=True, slots=True)
class RunRate:
    """Mean of the trailing `window` steps (28 days, unless history is shorter), for every step ahead."""

    window: int
    name: str = "run_rate"

    def fit(self, values: F64, seasons: tuple[int, ...]) -> FittedModel:
        n = len(values)
        window = min(n, self.window)
        back = min(window, n // 2)  # Leaves half of a short history to measure errors on.
        length = max(1, (n - back) // 2)
        origins = np.arange(back, n - length + 1)
        sums = np.concatenate(([0.0], np.cumsum(values)))
        means = (sums[origins] - sums[origins - back]) / back
        errors = values[origins[:, None] + np.arange(length)] - means[:, None]
        return _Empirical(np.array([values[-window:].mean()]), errors, seasons[0])


@dataclass(frozen=True, slots=True)
class _Empirical:
    """Fitted rule with the empirical distribution of its past errors, of shape (past origins, steps ahead).

    Signs are ignored, so intervals and paths are symmetric: a baseline has no drift, and its past bias is not
    projected. Beyond the longest horizon observed, errors grow with the square root of the number of seasons, as
    those of a random walk do.
    """

    cycle: F64
    errors: F64
    season: int
    converged: bool = True

    def predict(self, horizon: int) -> Prediction:
        mean = self._mean(horizon)
        half = np.stack([self._half_width(horizon, level) for level in LEVELS])
        return Prediction(mean, mean - half, mean + half)

    def paths(self, horizon: int, n: int, rng: np.random.Generator) -> F64:
        pieces: list[F64] = []
        carry = np.zeros((n, 1))
        for _ in range(-(-horizon // self.errors.shape[1])):
            drawn = self.errors[rng.integers(len(self.errors), size=n)] * rng.choice((-1.0, 1.0), size=(n, 1))
            pieces.append(carry + drawn)
            carry = pieces[-1][:, -self.season :].mean(axis=1, keepdims=True)
        return self._mean(horizon) + np.concatenate(pieces, axis=1)[:, :horizon]

    def _mean(self, horizon: int) -> F64:
        return self.cycle[np.arange(horizon) % len(self.cycle)]

    def _half_width(self, horizon: int, level: float) -> F64:
        cycles = -(-self.errors.shape[1] // self.season)
        size = np.abs(self.errors)
        known = [
            conformal_quantile(size[:, c * self.season : (c + 1) * self.season].ravel(), level) for c in range(cycles)
        ]
        at = np.arange(horizon) // self.season
        inside = np.minimum(at, cycles - 1)
        widths: F64 = np.asarray(known)[inside] * np.sqrt((at + 1) / (inside + 1))
        return widths
