"""Exponential smoothing models of statsmodels: `Ets` and `MstlEts`.

Hyndman, Koehler, Ord & Snyder, Forecasting with Exponential Smoothing (2008); Bandara, Hyndman & Bergmeir, MSTL (2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.seasonal import MSTL

from forecasting.model_interface import LEVELS, CannotFit, FittedModel, Prediction
from forecasting.series import F64

_FLAT = 1e-9
"""Range below which a series of order 1 counts as constant: its likelihood has no maximum."""


@dataclass(frozen=True, slots=True)
class Ets:
    """Exponential smoothing, additive error, damped additive trend, additive season: ETS(A,Ad,A).

    Initial states come from the heuristic of Hyndman et al. (2008, 2.6.1). On daily loads it was as accurate as
    estimating them and 3 to 5 times faster (docs/forecasting.md). Intervals are the model's analytic ones.
    """

    name: str = "ets"

    def fit(self, values: F64, seasons: tuple[int, ...]) -> FittedModel:
        season = seasons[0]
        need = max(10 + 2 * (season // 2), 2 * season + 1)  # Required by the heuristic.
        if len(values) < need:
            raise CannotFit(f"needs {need} points, has {len(values)}")
        result = _fit_ets(values, season)
        return _EtsFit(result, (), bool(result.mle_retvals["converged"]))


@dataclass(frozen=True, slots=True)
class MstlEts:
    """MSTL removes several seasons, ETS(A,Ad,N) forecasts the remainder, and the last cycle of each season is added.

    The intervals leave out the uncertainty of the seasons. The backtest's calibration makes up for it.
    """

    name: str = "mstl_ets"

    def fit(self, values: F64, seasons: tuple[int, ...]) -> FittedModel:
        usable = tuple(s for s in seasons if 2 * s < len(values))
        if len(usable) < 2:
            raise CannotFit("needs two seasons, such as 24 and 168 hours, with two cycles of each")
        if np.ptp(values) < _FLAT:
            raise CannotFit("the series is constant")
        parts = np.asarray(MSTL(values, periods=usable).fit().seasonal).reshape(len(values), len(usable))
        result = _fit_ets(values - parts.sum(axis=1), None)
        tails = tuple(parts[-s:, i].copy() for i, s in enumerate(usable))
        return _EtsFit(result, tails, bool(result.mle_retvals["converged"]))


def _fit_ets(values: F64, season: int | None) -> Any:
    if np.ptp(values) < _FLAT:
        raise CannotFit("the series is constant")
    seasonal = {"seasonal": "add", "seasonal_periods": season} if season and season > 1 else {}
    model = ETSModel(
        pd.Series(values), error="add", trend="add", damped_trend=True, initialization_method="heuristic", **seasonal
    )
    try:
        # `converged` reports a failed optimisation. A global warning filter would not be thread-safe.
        result = model.fit(disp=False, warn_convergence=False)
    except (np.linalg.LinAlgError, ValueError, FloatingPointError) as error:
        raise CannotFit(f"statsmodels gave up: {error}") from None
    if not (np.isfinite(result.llf) and result.mse > _FLAT**2):
        raise CannotFit("the likelihood has no maximum: the series is all but deterministic")
    return result


@dataclass(frozen=True, slots=True)
class _EtsFit:
    result: Any
    seasons: tuple[F64, ...]
    """Last cycle of each season that MSTL removed before the fit."""
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
