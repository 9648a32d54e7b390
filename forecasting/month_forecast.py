"""`next_month`: totals of the current and the next calendar month, with intervals of the *sum*.

Days are not independent, so a sum's interval is neither the sum of the intervals nor their root sum of squares.

1. Draw paths of daily values from the backtest's winner. Within a path, errors are correlated as the model's are.
2. Sum each path over the month. The quantiles of the sums around their mean are the raw interval.
3. Backtest these sums at up to 12 origins. Each compares the raw interval of the next 28 days (fewer if history is
   short) with the actual sum. Widen the interval by the factor that would have covered them.

With few folds the factor stays near PRIOR_WIDENING. It never narrows: overlapping months are too little evidence.

`SumBacktest` reports how often the sums were covered, with each fold widened by the other folds only. The folds
overlap, and the winner was selected on the same history: read it as a check, not as a guarantee.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, rfc3339
from forecasting.backtest import Backtest, backtest, origins, trust
from forecasting.model_interface import LEVELS, FittedModel, ForecastModel, conformal_quantile
from forecasting.preparation import PreparedSeries, prepare
from forecasting.series import F64, checked

WEEK = 7
SUM_DAYS = 28
SUM_FOLDS = 12
PRIOR_WIDENING = 2.0
"""Widening without evidence from a backtest: raw 80 % intervals covered 50 to 83 % (docs/forecasting.md)."""
MAX_STALE_DAYS = 14
DEFAULT_PATHS = 2000


@dataclass(frozen=True, slots=True)
class MonthTotal:
    """Total of a calendar month (UTC) in the unit of the daily series.

    lower <= mean <= upper, and the 95 % interval contains the 80 % one.
    """

    start_ms: int
    end_ms: int
    """Exclusive."""
    mean: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float
    to_date: float
    """Sum of the month's measured days, a part of `mean`."""
    known_days: int
    filled_days: int
    """Past days without a value that count with an interpolated one."""
    missing_days: int
    """Past days without a value that count as 0: before the history, or in a gap too long to fill."""


@dataclass(frozen=True, slots=True)
class SumBacktest:
    """Accuracy of the month totals' intervals on past sums. Ratios are 0 to 1."""

    days: int
    """Length of the tested sums."""
    folds: int
    coverage_80: float
    coverage_95: float
    wape: float
    """Sum of |forecast - actual| divided by the sum of actual totals."""
    widened: float
    """Factor for the half-widths of the raw intervals, 1 or more."""


@dataclass(frozen=True, slots=True)
class MonthForecast:
    """Forecast of the current and the next month, or the reason why it is withheld."""

    unit: str
    as_of_ms: int
    """Midnight (UTC) at the start of the day of `as_of`. History ends there."""
    current: MonthTotal | None
    next: MonthTotal | None
    withheld: str
    model: str
    converged: bool
    backtest: Backtest | None
    sums: SumBacktest | None
    filled_points: int


def next_month(
    daily: pd.Series,
    *,
    as_of: datetime | int,
    rng: np.random.Generator,
    unit: str = "",
    season: int = WEEK,
    paths: int = DEFAULT_PATHS,
) -> MonthForecast:
    """Forecast the totals of `as_of`'s calendar month and of the next one from daily sums. Times are UTC.

    `as_of` is a datetime (UTC if without a zone) or epoch ms. Its own, partial day and later days are ignored. `rng`
    draws the paths: the same generator state gives the same result. Money is passed as float, because this is an
    estimate and never a booking.

    The forecast is withheld below 28 days of history, and if the newest day is more than 14 days old. Raises BadInput
    for a series that is not regular and daily.
    """
    cut = _midnight(as_of)
    if not 100 <= paths <= 100_000:
        raise BadInput("paths", paths, "give 100 to 100000")
    known = _known_days(daily, cut)
    ready = prepare(known, season)
    withheld = ready.withheld or _stale(known, ready, cut)
    tested = None if withheld else backtest(ready.values, ready.models, ready.seasons, SUM_DAYS)
    if tested is None:
        reason = withheld or "history leaves nothing to test a forecast against"
        return MonthForecast(
            unit=unit,
            as_of_ms=cut,
            current=None,
            next=None,
            withheld=reason,
            model="",
            converged=False,
            backtest=None,
            sums=None,
            filled_points=ready.filled,
        )
    fitted = tested.winning_model.fit(ready.values, ready.seasons)
    sums = _backtest_sums(tested.winning_model, ready, rng, paths)
    current, following, end = _months(cut)
    horizon = (end - ready.next_ms) // MS_PER_DAY
    mean, drawn = _future(fitted, horizon, paths, rng, ready.nonnegative)
    at = np.arange(horizon) * MS_PER_DAY + ready.next_ms
    totals = []
    for lo, hi in ((current, following), (following, end)):
        inside = (at >= lo) & (at < hi)
        centre, bounds = _interval(mean[inside].sum(), drawn[:, inside].sum(axis=1), sums.widened)
        totals.append(_total(lo, hi, centre * ready.scale, bounds * ready.scale, known, ready))
    return MonthForecast(
        unit=unit,
        as_of_ms=cut,
        current=totals[0],
        next=totals[1],
        withheld="",
        model=tested.winner,
        converged=fitted.converged,
        backtest=tested,
        sums=sums,
        filled_points=ready.filled,
    )


def _known_days(daily: pd.Series, cut: int) -> pd.Series:
    """Return the days before `cut`, up to the last one with a value. Raises BadInput unless the series is daily."""
    stamps, _, step = checked(daily)
    if step != MS_PER_DAY or (stamps % MS_PER_DAY).any():
        raise BadInput("daily", step, "give one value per UTC day: use daily()")
    past = daily[np.asarray(stamps < cut)]
    with_value = np.flatnonzero(np.isfinite(past.to_numpy(np.float64)))
    return past[: int(with_value[-1]) + 1] if len(with_value) else past[:0]


def _stale(known: pd.Series, ready: PreparedSeries, cut: int) -> str:
    """Return the reason to withhold if the newest day is too old; empty if it is not."""
    stale_days = (cut - ready.next_ms) // MS_PER_DAY if len(known) else 0
    if stale_days <= MAX_STALE_DAYS:
        return ""
    return f"the newest day, {rfc3339(ready.next_ms - MS_PER_DAY)}, is {stale_days} days older than {rfc3339(cut)}"


def _future(fitted: FittedModel, horizon: int, n: int, rng: np.random.Generator, nonnegative: bool) -> tuple[F64, F64]:
    """Return the mean and `n` drawn paths of the steps ahead, clipped at 0 if the quantity cannot be negative."""
    mean, drawn = fitted.predict(horizon).mean, fitted.paths(horizon, n, rng)
    return (np.maximum(mean, 0.0), np.maximum(drawn, 0.0)) if nonnegative else (mean, drawn)


def _interval(centre: float, sums: F64, widened: float) -> tuple[float, F64]:
    """Return (centre, bounds of shape (2 levels, lower and upper)): quantiles of the sums about their mean, widened."""
    tails = [(1 - level) / 2 for level in LEVELS]
    spread = np.array([[np.quantile(sums, t), np.quantile(sums, 1 - t)] for t in tails]) - sums.mean()
    spread = np.stack([np.minimum(spread[:, 0], 0.0), np.maximum(spread[:, 1], 0.0)], axis=1) * widened
    spread[1] = [min(spread[1, 0], spread[0, 0]), max(spread[1, 1], spread[0, 1])]
    return centre, centre + spread


def _backtest_sums(model: ForecastModel, ready: PreparedSeries, rng: np.random.Generator, paths: int) -> SumBacktest:
    cuts, days = origins(len(ready.values), SUM_DAYS, ready.seasons, SUM_FOLDS)
    relative = np.zeros((len(cuts), len(LEVELS)))
    errors, actuals = np.zeros(len(cuts)), np.zeros(len(cuts))
    for i, cut in enumerate(cuts):
        fitted = model.fit(ready.values[:cut], ready.seasons)
        mean, drawn = _future(fitted, days, paths, rng, ready.nonnegative)
        centre, bounds = _interval(float(mean.sum()), drawn.sum(axis=1), 1.0)
        actuals[i] = ready.values[cut : cut + days].sum()
        errors[i] = actuals[i] - centre
        half = np.abs(bounds[:, 1 if errors[i] >= 0 else 0] - centre)
        relative[i] = np.divide(abs(errors[i]), half, out=np.full(len(LEVELS), np.inf), where=half > 0)
        # A constant series has an interval without width: ignore rounding errors, with values of order 1.
        if abs(errors[i]) < 1e-9 * days:
            relative[i] = 0.0
    others = [_widening(np.delete(relative, i, axis=0)) for i in range(len(cuts))]
    covered = (relative <= np.asarray(others)[:, None]).mean(axis=0)
    total = float(np.abs(actuals).sum())
    wape = float(np.abs(errors).sum()) / total if total > 0 else 0.0
    return SumBacktest(days, len(cuts), float(covered[0]), float(covered[1]), wape, _widening(relative))


def _widening(relative: F64) -> float:
    """Return the factor, 1 to 10, for the half-widths. `relative` is |error| / half-width at LEVELS, one row per fold.

    The factor would have covered the folds at the level that needs more. One factor for both levels keeps the shape
    of the distribution. The fewer the folds, the nearer it is to PRIOR_WIDENING.
    """
    if not len(relative):
        return PRIOR_WIDENING
    factor = max(conformal_quantile(relative[:, i], level) for i, level in enumerate(LEVELS))
    belief = trust(len(relative))
    return float(np.clip(factor, 1.0, 10.0) ** belief * PRIOR_WIDENING ** (1 - belief))


def _total(lo: int, hi: int, centre: float, bounds: F64, known: pd.Series, ready: PreparedSeries) -> MonthTotal:
    """Return a month's total: its measured days, its filled days and the forecast of the remaining ones."""
    stamps, raw, _ = checked(known)
    inside = (stamps >= lo) & (stamps < hi)
    measured = inside & np.isfinite(raw)
    to_date = float(raw[measured].sum())
    first = len(stamps) - len(ready.values)
    used = stamps[first:]
    gap = (used >= lo) & (used < hi) & ~np.isfinite(raw[first:])
    filled = float(ready.values[gap].sum()) * ready.scale
    floor = 0.0 if ready.nonnegative else -np.inf
    (lower_80, upper_80), (lower_95, upper_95) = (np.maximum(bounds, floor) + to_date + filled).tolist()
    past = max(0, (min(hi, ready.next_ms) - lo) // MS_PER_DAY)
    return MonthTotal(
        start_ms=lo,
        end_ms=hi,
        mean=float(centre + to_date + filled),
        lower_80=lower_80,
        upper_80=upper_80,
        lower_95=lower_95,
        upper_95=upper_95,
        to_date=to_date,
        known_days=int(measured.sum()),
        filled_days=int(gap.sum()),
        missing_days=int(past - measured.sum() - gap.sum()),
    )


def _midnight(as_of: datetime | int) -> int:
    if isinstance(as_of, datetime):
        stamp = as_of if as_of.tzinfo else as_of.replace(tzinfo=UTC)
        ms = int(stamp.timestamp() * 1000)
    else:
        ms = int(as_of)
    return ms // MS_PER_DAY * MS_PER_DAY


def _months(ms: int) -> tuple[int, int, int]:
    """Return the starts of `ms`'s month, of the next one and of the one after, in epoch ms."""
    day = datetime.fromtimestamp(ms / 1000, UTC)
    first = day.year * 12 + day.month - 1
    starts = [datetime((first + i) // 12, (first + i) % 12 + 1, 1, tzinfo=UTC) for i in range(3)]
    current, following, end = (int(s.timestamp()) * 1000 for s in starts)
    return current, following, end
