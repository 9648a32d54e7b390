"""`forecast`: a series in, its next `horizon` steps out, by the candidate that the backtest chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY
from forecasting.backtest import Backtest, backtest, calibrated
from forecasting.models import candidates
from forecasting.protocol import Model, Prediction
from forecasting.series import F64, checked, fill

MAX_HORIZON = 10_000
MIN_SEASONS = 3
"""Two to learn a season from and one to test it against."""
MIN_DAYS = 28
"""About one billing cycle: below it a daily series is withheld, as AWS Cost Explorer withholds its forecast."""
MAX_GAP_SEASONS = 2
MAX_FILLED_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class ForecastPoint:
    """One step ahead; the values are in the forecast's unit."""

    t_ms: int
    """Start of the step, UTC epoch ms."""
    mean: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What comes next, or why nothing is said."""

    unit: str
    """The caller's label, passed through."""
    step_ms: int
    points: tuple[ForecastPoint, ...]
    """Empty when withheld."""
    withheld: str
    """The reason in plain words; empty when there is a forecast."""
    model: str
    """The winner's name; empty when withheld."""
    converged: bool
    """False: the winner's final fit stopped before its optimiser converged; treat it with care."""
    backtest: Backtest | None
    history_points: int
    """Points used, after cutting what lies before a gap too long to fill."""
    filled_points: int
    """Of these, how many were interpolated."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A series ready for the candidates: complete, and divided by `scale` so that the optimisers see order 1."""

    values: F64
    scale: float
    step_ms: int
    next_ms: int
    """Start of the first step ahead."""
    seasons: tuple[int, ...]
    models: tuple[Model, ...]
    nonnegative: bool
    """The measured history never falls below 0, so neither may an interval."""
    filled: int
    withheld: str


def prepare(series: pd.Series, season: int | Sequence[int]) -> Prepared:
    """Check, fill, scale and judge a series. Raises BadInput for a series or season that is not one."""
    asked = tuple(sorted({int(s) for s in ([season] if isinstance(season, int) else season)}))
    if not asked or asked[0] < 2:
        raise BadInput(
            "season", season, "give the season's length in steps, 2 or more: 7 for days, 24 or (24, 168) for hours"
        )
    stamps, raw, step_ms = checked(series)
    filled = fill(raw, asked[0], max_gap=MAX_GAP_SEASONS * asked[0])
    n = len(filled.values)
    seasons = tuple(s for s in asked if MIN_SEASONS * s <= n) or asked[:1]
    measured = raw[filled.start :]
    scale = float(np.mean(np.abs(filled.values))) if n else 0.0
    scale = scale if scale > 0 else 1.0
    # Rounding hides the last bits, in which the same series in another unit differs: an optimiser would amplify them.
    values = np.round(filled.values / scale, 10)
    next_ms = int(stamps[-1]) + step_ms if len(stamps) else 0
    nonnegative = bool(n) and bool(np.nanmin(measured) >= 0)
    why = _withheld(n, filled.interpolated, asked[0], step_ms)
    return Prepared(
        values, scale, step_ms, next_ms, seasons, candidates(seasons, step_ms), nonnegative, filled.interpolated, why
    )


def forecast(
    series: pd.Series,
    horizon: int,
    *,
    season: int | Sequence[int],
    unit: str = "",
    models: Sequence[Model] | None = None,
) -> Forecast:
    """The next `horizon` steps of a regular series, with 80 and 95 % intervals for each step.

    `season` is in steps: 7 for daily, 24 or (24, 168) for hourly values; longer seasons that the history does not
    hold three times are left out. `models` replaces the candidates. Deterministic. Scaling the series scales the
    forecast. Withholds, with the reason, when history is too short or too broken; raises BadInput for a series that
    is not regular, or a horizon outside 1 to MAX_HORIZON.
    """
    if not 1 <= horizon <= MAX_HORIZON:
        raise BadInput("horizon", horizon, f"give 1 to {MAX_HORIZON} steps")
    ready = prepare(series, season)
    tested = None if ready.withheld else backtest(ready.values, models or ready.models, ready.seasons, horizon)
    if tested is None:
        why = ready.withheld or f"history of {len(ready.values)} points leaves nothing to test a forecast against"
        return Forecast(unit, ready.step_ms, (), why, "", False, None, len(ready.values), ready.filled)
    fitted = tested.chosen.fit(ready.values, ready.seasons)
    prediction = bounded(calibrated(fitted.predict(horizon), tested.calibration), ready.nonnegative)
    points = tuple(
        ForecastPoint(ready.next_ms + i * ready.step_ms, *(float(v) * ready.scale for v in row))
        for i, row in enumerate(zip(prediction.mean, *_columns(prediction), strict=True))
    )
    return Forecast(
        unit, ready.step_ms, points, "", tested.winner, fitted.converged, tested, len(ready.values), ready.filled
    )


def bounded(prediction: Prediction, nonnegative: bool) -> Prediction:
    """Cut at 0 where the quantity cannot be negative."""
    if not nonnegative:
        return prediction
    return Prediction(*(np.maximum(part, 0.0) for part in (prediction.mean, prediction.lower, prediction.upper)))


def _columns(prediction: Prediction) -> tuple[F64, F64, F64, F64]:
    return prediction.lower[0], prediction.upper[0], prediction.lower[1], prediction.upper[1]


def _withheld(n: int, filled: int, season: int, step_ms: int) -> str:
    need = MIN_SEASONS * season
    if step_ms == MS_PER_DAY:
        need = max(need, MIN_DAYS)
    if n < need:
        unit = "days" if step_ms == MS_PER_DAY else "points"
        return (
            f"history is too short: {n} {unit} since the last long gap; {need} needed, three seasons or a billing cycle"
        )
    if filled > MAX_FILLED_RATIO * n:
        return f"history is too broken: {filled} of {n} points are missing, at most {MAX_FILLED_RATIO:.0%} may be"
    return ""
