"""`forecast`: the next steps of a series, by the model that the backtest selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from contracts.errors import BadInput
from forecasting.backtest import Backtest, backtest, calibrated
from forecasting.model_interface import ForecastModel, Prediction
from forecasting.preparation import prepare
from forecasting.series import F64

MAX_HORIZON = 10_000


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """One step ahead, with 80 and 95 % intervals, in the forecast's unit."""

    t_ms: int
    """Start of the step, UTC epoch ms."""
    mean: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of one series, or the reason why it is withheld."""

    unit: str
    """The caller's label, passed through."""
    step_ms: int
    points: tuple[ForecastPoint, ...]
    """Empty if withheld."""
    withheld: str
    """Reason for a person to read; empty if there is a forecast."""
    model: str
    """Name of the backtest's winner; empty if withheld."""
    converged: bool
    """False if the winner's final fit stopped before its optimiser converged: treat it with care."""
    backtest: Backtest | None
    history_points: int
    """Points used, which excludes those before a gap too long to fill."""
    filled_points: int
    """Number of `history_points` that were interpolated."""


def forecast(
    series: pd.Series,
    horizon: int,
    *,
    season: int | Sequence[int],
    unit: str = "",
    models: Sequence[ForecastModel] | None = None,
) -> Forecast:
    """Forecast the next `horizon` steps of a regular series, with 80 and 95 % intervals for each step.

    `season` is in steps: 7 for daily, 24 or (24, 168) for hourly values. Longer seasons of which the history has
    fewer than three are left out. `models` replaces the default candidates. The result is deterministic, and scaling
    the series scales it.

    The forecast is withheld, with the reason, if history is too short or too broken. Raises BadInput for a series that
    is not regular and for a horizon outside 1 to MAX_HORIZON.
    """
    if not 1 <= horizon <= MAX_HORIZON:
        raise BadInput("horizon", horizon, f"give 1 to {MAX_HORIZON} steps")
    ready = prepare(series, season)
    tested = None if ready.withheld else backtest(ready.values, models or ready.models, ready.seasons, horizon)
    if tested is None:
        reason = ready.withheld or f"history of {len(ready.values)} points leaves nothing to test a forecast against"
        return Forecast(
            unit=unit,
            step_ms=ready.step_ms,
            points=(),
            withheld=reason,
            model="",
            converged=False,
            backtest=None,
            history_points=len(ready.values),
            filled_points=ready.filled,
        )
    fitted = tested.winning_model.fit(ready.values, ready.seasons)
    prediction = bounded(calibrated(fitted.predict(horizon), tested.calibration), ready.nonnegative)
    points = tuple(
        ForecastPoint(ready.next_ms + i * ready.step_ms, *(float(v) * ready.scale for v in row))
        for i, row in enumerate(zip(prediction.mean, *_columns(prediction), strict=True))
    )
    return Forecast(
        unit=unit,
        step_ms=ready.step_ms,
        points=points,
        withheld="",
        model=tested.winner,
        converged=fitted.converged,
        backtest=tested,
        history_points=len(ready.values),
        filled_points=ready.filled,
    )


def bounded(prediction: Prediction, nonnegative: bool) -> Prediction:
    """Clip a prediction at 0 if the quantity cannot be negative."""
    if not nonnegative:
        return prediction
    return Prediction(*(np.maximum(part, 0.0) for part in (prediction.mean, prediction.lower, prediction.upper)))


def _columns(prediction: Prediction) -> tuple[F64, F64, F64, F64]:
    return prediction.lower[0], prediction.upper[0], prediction.lower[1], prediction.upper[1]
