"""Rules that need no fitting, among them the two baselines: seasonal naive, and the run rate of cost dashboards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.protocol import LEVELS, Fitted, Prediction, Unfit, conformal_quantile
from forecasting.series import F64


@dataclass(frozen=True, slots=True)
class SeasonalRule:
    """The median of the last `back` values of the same phase. With `back` 1: seasonal naive, the last season again.

    Errors: those that it would have made from every past origin.
    """

    name: str
    season: int
    back: int

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        season, n = self.season, len(values)
        back = min(self.back, n // season - 1)
        if back < 1:
            raise Unfit(f"needs {2 * season} points, has {n}")
        # medians[i] stands for step back * season + i, from the `back` values of its phase before it.
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
    """The mean of the trailing `window` steps (28 days, unless history is shorter), for every step ahead."""

    window: int
    name: str = "run_rate"

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        n = len(values)
        window = min(n, self.window)
        back = min(window, n // 2)  # a short history still has to show what errors the rule makes
        length = max(1, (n - back) // 2)
        origins = np.arange(back, n - length + 1)
        sums = np.concatenate(([0.0], np.cumsum(values)))
        means = (sums[origins] - sums[origins - back]) / back
        errors = values[origins[:, None] + np.arange(length)] - means[:, None]
        return _Empirical(np.array([values[-window:].mean()]), errors, seasons[0])


@dataclass(frozen=True, slots=True)
class _Empirical:
    """A rule whose uncertainty is what it got wrong before: `errors` (past origins x steps ahead).

    Signs are ignored (intervals and paths are symmetric): a baseline has no drift, so its past bias is not projected.
    Beyond the longest horizon seen, errors grow with the square root of the number of seasons, as a random walk's do.
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
