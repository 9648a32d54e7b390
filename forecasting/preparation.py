"""Preparation of a series for the forecast models: fill gaps, scale to order 1, and judge whether history suffices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY
from forecasting.model_interface import ForecastModel
from forecasting.models import candidates
from forecasting.series import F64, checked, fill

MIN_SEASONS = 3
"""Two to learn a season from and one to test it against."""
MIN_DAYS = 28
"""About one billing cycle. AWS Cost Explorer withholds its forecast below that, too."""
MAX_GAP_SEASONS = 2
MAX_FILLED_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class PreparedSeries:
    """Series without gaps, divided by `scale` so that optimisers work on values of order 1."""

    values: F64
    scale: float
    step_ms: int
    next_ms: int
    """Start of the first step ahead."""
    seasons: tuple[int, ...]
    models: tuple[ForecastModel, ...]
    nonnegative: bool
    """True if the measured history never falls below 0: then no interval may either."""
    filled: int
    """Number of interpolated values."""
    withheld: str
    """Reason why no forecast is possible; empty if one is."""


def prepare(series: pd.Series, season: int | Sequence[int]) -> PreparedSeries:
    """Check, fill and scale a series, and judge its history. Raises BadInput for an unusable series or season."""
    periods = tuple(sorted({int(s) for s in ([season] if isinstance(season, int) else season)}))
    if not periods or periods[0] < 2:
        raise BadInput(
            "season", season, "give the season's length in steps, 2 or more: 7 for days, 24 or (24, 168) for hours"
        )
    stamps, raw, step_ms = checked(series)
    filled = fill(raw, periods[0], max_gap=MAX_GAP_SEASONS * periods[0])
    n = len(filled.values)
    seasons = tuple(s for s in periods if MIN_SEASONS * s <= n) or periods[:1]
    measured = raw[filled.start :]
    scale = float(np.mean(np.abs(filled.values))) if n else 0.0
    scale = scale if scale > 0 else 1.0
    # The last bits differ for the same series in another unit, and an optimiser would amplify that: round them away.
    values = np.round(filled.values / scale, 10)
    next_ms = int(stamps[-1]) + step_ms if len(stamps) else 0
    nonnegative = bool(n) and bool(np.nanmin(measured) >= 0)
    withheld = _withheld(n, filled.interpolated, periods[0], step_ms)
    models = candidates(seasons, step_ms)
    return PreparedSeries(
        values=values,
        scale=scale,
        step_ms=step_ms,
        next_ms=next_ms,
        seasons=seasons,
        models=models,
        nonnegative=nonnegative,
        filled=filled.interpolated,
        withheld=withheld,
    )


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
