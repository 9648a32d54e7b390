"""The candidates, behind one small protocol: `fit(values, seasons)` gives a `Fitted` that predicts and draws paths.

Values reach a model complete (no NaN) and of order 1; the caller scales. Two candidates are baselines that need no
fitting and are always scored: seasonal naive (last season again) and `RunRate` (the trailing mean, which is what
cost dashboards extrapolate). `Ets` and `MstlEts` are statsmodels' (Hyndman et al., Forecasting with Exponential
Smoothing, 2008; Bandara, Hyndman & Bergmeir, MSTL, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.seasonal import MSTL

from contracts.units import MS_PER_DAY
from forecasting.series import F64

LEVELS = (0.80, 0.95)
"""Nominal coverages of the two intervals, in the order of every `lower` and `upper` below."""

RUN_RATE_DAYS = 28
"""Four whole weeks, so that the mean is not tilted by which weekdays it holds."""

NAIVE = "seasonal_naive"
POOL = "pool"

_FLAT = 1e-9  # relative spread below which a series of order 1 is constant and a likelihood has no maximum


class Unfit(Exception):  # noqa: N818 - not an error: this candidate stands aside, and says why
    """The candidate cannot be fitted to this series; `str()` is the reason, shown beside its name."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """`mean` has shape (horizon,), `lower` and `upper` (2, horizon) for LEVELS; lower <= mean <= upper, 95 holds 80."""

    mean: F64
    lower: F64
    upper: F64


class Fitted(Protocol):
    """A fitted candidate."""

    @property
    def converged(self) -> bool: ...

    def predict(self, horizon: int) -> Prediction: ...

    def paths(self, horizon: int, n: int, rng: np.random.Generator) -> F64:
        """`n` possible futures, shape (n, horizon), whose errors are correlated as the model's are."""
        ...


class Model(Protocol):
    """A candidate. `seasons` are periods in steps, ascending; each fits the values at least twice."""

    @property
    def name(self) -> str: ...

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        """Raises Unfit with the reason."""
        ...


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
class Ets:
    """Exponential smoothing, additive error, damped additive trend, additive season: ETS(A,Ad,A).

    Initial states by the heuristic of Hyndman et al. (2008, 2.6.1): on daily loads it was as accurate as estimating
    them and 3 to 5 times faster (docs/forecasting.md). Intervals are the model's analytic ones.
    """

    name: str = "ets"

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        season = seasons[0]
        if len(values) < max(10, 2 * season + 1):
            raise Unfit(f"needs {max(10, 2 * season + 1)} points, has {len(values)}")
        result = _fit_ets(values, season)
        return _EtsFit(result, (), bool(result.mle_retvals["converged"]))


@dataclass(frozen=True, slots=True)
class MstlEts:
    """Several seasons taken out by MSTL, ETS(A,Ad,N) for what is left, the last cycle of each season put back.

    Its intervals leave out the uncertainty of the seasons: the backtest's calibration makes up for it.
    """

    name: str = "mstl_ets"

    def fit(self, values: F64, seasons: tuple[int, ...]) -> Fitted:
        usable = tuple(s for s in seasons if 2 * s < len(values))
        if len(usable) < 2:
            raise Unfit("needs two seasons, such as 24 and 168 hours, with two cycles of each")
        if np.ptp(values) < _FLAT:
            raise Unfit("the series is constant")
        parts = np.asarray(MSTL(values, periods=usable).fit().seasonal).reshape(len(values), len(usable))
        result = _fit_ets(values - parts.sum(axis=1), None)
        tails = tuple(parts[-s:, i].copy() for i, s in enumerate(usable))
        return _EtsFit(result, tails, bool(result.mle_retvals["converged"]))


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


def _fit_ets(values: F64, season: int | None) -> Any:
    if np.ptp(values) < _FLAT:
        raise Unfit("the series is constant")
    seasonal = {"seasonal": "add", "seasonal_periods": season} if season and season > 1 else {}
    model = ETSModel(
        pd.Series(values), error="add", trend="add", damped_trend=True, initialization_method="heuristic", **seasonal
    )
    try:
        # A failed optimisation is read from the result and reported; a global warning filter would not be thread-safe.
        result = model.fit(disp=False, warn_convergence=False)
    except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
        raise Unfit(f"statsmodels gave up: {error}") from None
    if not (np.isfinite(result.llf) and result.mse > _FLAT**2):
        raise Unfit("the likelihood has no maximum: the series is all but deterministic")
    return result


@dataclass(frozen=True, slots=True)
class _EtsFit:
    result: Any
    seasons: tuple[F64, ...]
    """The last cycle of each season that was taken out before fitting."""
    converged: bool

    def predict(self, horizon: int) -> Prediction:
        n = int(self.result.nobs)
        predicted = self.result.get_prediction(n, n + horizon - 1)
        season = self._season(horizon)
        mean = np.asarray(predicted.predicted_mean, np.float64)
        bounds = [np.asarray(predicted.pred_int(1 - level), np.float64) for level in LEVELS]
        return Prediction(
            mean + season, np.stack([b[:, 0] for b in bounds]) + season, np.stack([b[:, 1] for b in bounds]) + season
        )

    def paths(self, horizon: int, n: int, rng: np.random.Generator) -> F64:
        errors = rng.normal(0.0, np.sqrt(self.result.mse), size=(horizon, n))
        drawn = self.result.simulate(horizon, anchor="end", repetitions=n, random_errors=errors)
        return np.asarray(drawn, np.float64).reshape(horizon, n).T + self._season(horizon)

    def _season(self, horizon: int) -> F64:
        return sum((tail[np.arange(horizon) % len(tail)] for tail in self.seasons), np.zeros(horizon))


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
        return np.asarray(known)[inside] * np.sqrt((at + 1) / (inside + 1))


def conformal_quantile(sizes: F64, level: float) -> float:
    """The smallest size that covers `level` of a further draw: the ceil((n+1) level)-th (Vovk; n/(n+1) corrected)."""
    n = len(sizes)
    return float(np.quantile(sizes, min(1.0, np.ceil((n + 1) * level) / n), method="inverted_cdf")) if n else 0.0
