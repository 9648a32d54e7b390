"""Anomaly detection on robust residuals, merged into episodes that a person can read.

expected = level + season. Both are medians of the past, so that an anomaly barely affects its own reference:

* Level: Median over the last 4 seasons of the mean over one season, which is season-neutral. It follows growth and
  takes about 2 seasons to accept a new level. Until then, a level shift is an episode.
* Season: Median over the last 8 cycles of how far the same phase was above its level.
* Score: Residual / spread. The spread is 1.4826 MAD of the residuals of the last 8 seasons (Iglewicz & Hoaglin's
  modified z). Heavy tails raise it, up to twofold, to the value that their 95 % quantile suggests. If more than half
  of the residuals are 0, it is 1.2533 x their mean absolute size.

A point is anomalous if |score| >= `threshold` and |residual| >= `min_effect` times the expected value. The level
replaces the expected value where it is greater: 1 J instead of 0 J at night is not worth a report.

A point is also anomalous if the median residual over a day (over a week, for daily series) passes the same two tests.
This detects a lasting shift in which no single point stands out. A missing point is never an anomaly and never
interpolated.

With `causal=True` only earlier points judge a point, so appending data never changes a verdict. Otherwise the season is
learned from the 4 cycles on either side, and later points judge the first weeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, duration, rfc3339
from forecasting.series import F64, checked, runs

THRESHOLD = 6.0
MIN_EFFECT = 0.2
MIN_SEASONS = 3
LEVEL_SEASONS = 4
CYCLES = 8
MAX_SCORE = 1000.0
"""Upper limit of scores: with a spread near 0, a larger ratio carries no information."""

# For a normal distribution: standard deviation / MAD, standard deviation / mean absolute size, and the 95 % quantile of
# the absolute value in standard deviations.
_MAD_TO_SIGMA = 1.4826
_MEAN_TO_SIGMA = 1.2533
_TAIL_TO_SIGMA = 1.96
MAX_TAIL = 2.0
"""Largest factor by which heavy tails raise the spread. The bound keeps a long anomaly from hiding the next one."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Episode [start, end) of points that deviate in the same direction. Values are in the series' unit."""

    start_ms: int
    end_ms: int
    kind: Literal["spike", "level shift"]
    """A level shift lasts longer than a day (longer than a week, for daily series). It ends when it is the new norm."""
    direction: Literal["up", "down"]
    expected: float
    """Mean per step over the episode's known points."""
    actual: float
    """Mean per step, likewise."""
    excess: float
    """Sum of actual - expected over the known points: the extra cost or energy, for units that add up."""
    score: float
    """Greatest score of a point or a lasting shift in the episode, in standard deviations, at most MAX_SCORE."""
    ongoing: bool
    """True if the last point of the series is part of the episode."""
    reason: str
    """One sentence for a person to read."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Episodes of a series, with the expected values and scores behind them."""

    episodes: tuple[Anomaly, ...]
    withheld: str
    """Reason why no point was judged; empty if some were. With a reason, no episodes does not mean no anomalies."""
    judged: int
    """Number of points that had a value and enough history."""
    expected: F64
    """Expected value of each point; NaN where not judged."""
    scores: F64
    """Signed score of each point; NaN where not judged."""


def anomalies(
    series: pd.Series, *, season: int, unit: str = "", causal: bool = False,
    threshold: float = THRESHOLD, min_effect: float = MIN_EFFECT,
) -> list[Anomaly]:  # fmt: skip
    """Return the episodes of a regular series in time order.

    The list is also empty if history is too short; `detect` distinguishes the two. `season` is in steps: 7 for days;
    168 for hours with four weeks or more, else 24. Raises BadInput as `detect` does.
    """
    detection = detect(series, season=season, unit=unit, causal=causal, threshold=threshold, min_effect=min_effect)
    return list(detection.episodes)


def detect(
    series: pd.Series, *, season: int, unit: str = "", causal: bool = False,
    threshold: float = THRESHOLD, min_effect: float = MIN_EFFECT,
) -> Detection:  # fmt: skip
    """Judge every point. `threshold` is in standard deviations, `min_effect` a ratio (0.2: a fifth more or less).

    Raises BadInput for a series that is not regular, a season below 2, a threshold or an effect that is not positive.
    """
    for name, value, least in (("season", season, 2), ("threshold", threshold, 1e-9), ("min_effect", min_effect, 0)):
        if not value >= least:
            raise BadInput(name, value, f"give {least} or more")
    stamps, values, step_ms = checked(series)
    n, known = len(values), int(np.isfinite(values).sum())
    if known < MIN_SEASONS * season:
        reason = f"history is too short: {known} known points, {MIN_SEASONS * season} needed"
        return Detection((), reason, 0, np.full(n, np.nan), np.full(n, np.nan))
    level, seasonal = _reference(values, season, causal=causal)
    expected = level + seasonal
    residual = values - expected
    window = min(season, max(7, MS_PER_DAY // step_ms))
    medians = (
        pd.Series(residual).rolling(window, min_periods=-(-window * 3 // 4), center=not causal).median().to_numpy()
    )
    spread = _spread(residual, level, season, window, causal=causal)
    scores = _scores(residual, spread)
    slow = _scores(medians, _spread(medians, level, season, window, causal=causal))
    usual = np.maximum(np.abs(expected), np.abs(level))
    large = np.abs(residual) >= min_effect * usual
    lasting = (np.abs(slow) >= threshold) & (np.abs(medians) >= min_effect * usual) & np.isfinite(scores)
    episodes: list[Anomaly] = []
    gap = max(1, min(season, MS_PER_DAY // step_ms) // 4)
    for sign in (1, -1):
        near = large & (sign * scores >= threshold / 2)
        strong = large & (sign * scores >= threshold) | lasting & (sign * slow > 0)
        for lo, hi in _merge(strong, near | strong, gap, causal=causal):
            peak = float(np.nanmax(np.maximum(sign * scores[lo:hi], sign * np.nan_to_num(slow[lo:hi]))))
            episodes.append(_episode(lo, hi, stamps, step_ms, values, expected, peak, sign, spread, window, unit))
    episodes.sort(key=lambda e: (e.start_ms, e.end_ms))
    judged = int(np.isfinite(scores).sum())
    reason = "" if judged else f"history is too short: no point has enough history in {n} points of season {season}"
    return Detection(tuple(episodes), reason, judged, expected, scores)


def _scores(residual: F64, spread: F64) -> F64:
    with np.errstate(over="ignore"):  # The quotient may overflow with a tiny spread; MAX_SCORE limits it anyway.
        return np.clip(residual / spread, -MAX_SCORE, MAX_SCORE)


def _reference(values: F64, season: int, *, causal: bool) -> tuple[F64, F64]:
    """Return (level, season) of each point; NaN where the past (if not causal, the surroundings) is too short."""
    means = pd.Series(values).rolling(season, min_periods=max(1, season * 3 // 4)).mean()
    level = means.rolling(LEVEL_SEASONS * season, min_periods=max(1, season // 4)).median().shift(1)
    if not causal:
        level = level.bfill()
    lvl = level.to_numpy()
    above = np.full(len(values) + 2 * CYCLES * season, np.nan)  # Padded with NaN on both ends.
    inner = slice(CYCLES * season, CYCLES * season + len(values))
    above[inner] = values - lvl
    # A point never counts for itself: among few cycles it would be the median, and residuals would be too small.
    shifts = range(-CYCLES, 0) if causal else [*range(-CYCLES // 2, 0), *range(1, CYCLES // 2 + 1)]
    cycles = np.stack([above[inner.start + k * season : inner.stop + k * season] for k in shifts])
    return lvl, _median(cycles, least=2)


def _median(stack: F64, least: int) -> F64:
    """Return the median along axis 0, ignoring NaN; NaN where fewer than `least` values are known."""
    ordered = np.sort(stack, axis=0)  # Sorts NaN last.
    count = np.isfinite(stack).sum(axis=0)
    middle = np.maximum(count, 1)
    pair = np.stack([(middle - 1) // 2, middle // 2])
    return np.where(count >= least, np.take_along_axis(ordered, pair, axis=0).mean(axis=0), np.nan)


def _spread(residual: F64, level: F64, season: int, lag: int, *, causal: bool) -> F64:
    """Return a robust standard deviation of the residuals up to `lag` steps before each point; never 0.

    The lag keeps the start of a long anomaly out of its own yardstick.
    """
    size = pd.Series(np.abs(residual)).rolling(CYCLES * season, min_periods=season)
    past = pd.DataFrame({"mad": size.median(), "tail": size.quantile(0.95), "mean": size.mean()}).shift(lag)
    if not causal:
        past = past.bfill()
    mad = _MAD_TO_SIGMA * past["mad"].to_numpy()
    sigma = np.clip(past["tail"].to_numpy() / _TAIL_TO_SIGMA, mad, MAX_TAIL * mad)
    # Rounding noise around a constant is not a usable spread.
    tiny = 1e-6 * np.abs(level) + np.finfo(np.float64).tiny
    spread = np.where(mad > tiny, sigma, np.maximum(_MEAN_TO_SIGMA * past["mean"].to_numpy(), tiny))
    return np.where(np.isfinite(mad), spread, np.nan)


def _merge(
    strong: npt.NDArray[np.bool_], weak: npt.NDArray[np.bool_], gap: int, *, causal: bool
) -> list[tuple[int, int]]:
    """Return the runs of strong points, extended through adjacent weak points.

    Runs are merged if `gap` steps or fewer, or at most a quarter of the earlier run's length, lie between them. Only
    with hindsight may a run start before its first strong point.
    """
    spans: list[tuple[int, int]] = []
    for lo, hi in runs(strong | weak):
        hits = np.flatnonzero(strong[lo:hi])
        if not len(hits):
            continue
        start = lo + int(hits[0]) if causal else lo
        if spans and start - spans[-1][1] <= max(gap, (spans[-1][1] - spans[-1][0]) // 4):
            spans[-1] = (spans[-1][0], hi)
        else:
            spans.append((start, hi))
    return spans


def _episode(
    lo: int, hi: int, stamps: npt.NDArray[np.int64], step_ms: int, values: F64, expected: F64, peak: float,
    sign: int, spread: F64, window: int, unit: str,
) -> Anomaly:  # fmt: skip
    known = np.isfinite(values[lo:hi] - expected[lo:hi])
    actual, normal = values[lo:hi][known], expected[lo:hi][known]
    start, end = int(stamps[lo]), int(stamps[hi - 1]) + step_ms
    excess = float((actual - normal).sum())
    mean, usual = float(actual.mean()), float(normal.mean())
    up = sign > 0
    kind: Literal["spike", "level shift"] = "level shift" if hi - lo > window else "spike"
    label = f" {unit}" if unit else ""
    change = (
        f"{abs(mean / usual - 1):.0%} {'above' if up else 'below'}" if usual > 0 else f"{'above' if up else 'below'}"
    )
    noise = float(np.median(spread[lo:hi][known]))
    reason = (
        f"{kind}: {mean:.4g}{label} per step, {change} the expected {usual:.4g}, for {duration(end - start)} from "
        f"{rfc3339(start)}; usual deviation {noise:.2g} (score {peak:.1f})"
    )
    return Anomaly(
        start_ms=start,
        end_ms=end,
        kind=kind,
        direction="up" if up else "down",
        expected=usual,
        actual=mean,
        excess=excess,
        score=peak,
        ongoing=hi == len(values),
        reason=reason,
    )
