"""Robust residual anomalies, merged into episodes that a person can read.

expected = level + season, both medians of the past, so that an anomaly hardly moves what it is compared with:

* level: the median over the last 4 seasons of the mean over one season (season-neutral). It follows growth, and takes
  about 2 seasons to accept a new level: until then a level shift is an episode.
* season: the median, over the last 8 cycles, of what the same phase was above its level.
* score: residual / spread; spread is 1.4826 MAD of the residuals of the last 8 seasons (Iglewicz & Hoaglin's modified
  z), raised to what their 95 % quantile says where tails are heavy, at most twofold; where more than half of the
  residuals are 0, 1.2533 x their mean absolute size.

A point is anomalous when |score| >= `threshold` and |residual| >= `min_effect` of what was expected (or of the level,
where that is greater: 1 J more than nothing at night is not news). So is one where the median residual over a day (a
week, for days) is, by the same two tests on such medians: a lasting shift that no single point betrays. A missing point
is never an anomaly and never interpolated.

With `causal=True` each point is judged by strictly earlier points alone: appending data never changes a verdict.
Without, the season is learned from the 4 cycles on either side, and the first weeks are judged by what followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from contracts.errors import BadInput
from contracts.units import MS_PER_DAY, MS_PER_HOUR, rfc3339
from forecasting.series import F64, checked, runs

THRESHOLD = 6.0
MIN_EFFECT = 0.2
MIN_SEASONS = 3
LEVEL_SEASONS = 4
CYCLES = 8
MAX_SCORE = 1000.0
"""Scores are cut here: beside a spread of all but 0 a ratio says nothing more."""

_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_MEAN_TO_SIGMA = 1.2533
_TAIL_TO_SIGMA = 1.96  # the 95 % quantile of a normal's absolute value
MAX_TAIL = 2.0
"""How far heavy tails may raise the spread above the MAD's: bounded, so that a long anomaly cannot hide the next."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An episode [start, end) of points that went the same way. Values are in the series' unit."""

    start_ms: int
    end_ms: int
    kind: Literal["spike", "level shift"]
    """A level shift lasts longer than a day (than a week, for days); it ends where it became the norm."""
    direction: Literal["up", "down"]
    expected: float
    """Mean per step over the episode's known points."""
    actual: float
    """Mean per step, likewise."""
    excess: float
    """Sum of actual - expected over the known points: what the episode cost, where the unit adds up."""
    score: float
    """The greatest score within, of a point or of a lasting shift, in standard deviations, at most MAX_SCORE."""
    ongoing: bool
    """The last point of the series is part of it."""
    reason: str
    """One plain sentence."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The episodes, and what they were judged by."""

    episodes: tuple[Anomaly, ...]
    withheld: str
    """Why nothing was judged; empty where something was. No episodes and a reason is not a clean bill."""
    judged: int
    """Points that had a value and enough of a past."""
    expected: F64
    """Per point; NaN where not judged."""
    scores: F64
    """Per point, signed; NaN where not judged."""


def anomalies(
    series: pd.Series, *, season: int, unit: str = "", causal: bool = False,
    threshold: float = THRESHOLD, min_effect: float = MIN_EFFECT,
) -> list[Anomaly]:  # fmt: skip
    """The episodes of a regular series in time order; empty also where history is too short: `detect` tells which.

    `season` is in steps: 7 for days; 168 for hours with four weeks or more, else 24. Raises BadInput as `detect` does.
    """
    found = detect(series, season=season, unit=unit, causal=causal, threshold=threshold, min_effect=min_effect)
    return list(found.episodes)


def detect(
    series: pd.Series, *, season: int, unit: str = "", causal: bool = False,
    threshold: float = THRESHOLD, min_effect: float = MIN_EFFECT,
) -> Detection:  # fmt: skip
    """Judge every point. `threshold` in standard deviations, `min_effect` a ratio (0.2: a fifth more or less).

    Raises BadInput for a series that is not regular, a season below 2, a threshold or an effect that is not positive.
    """
    for name, value, least in (("season", season, 2), ("threshold", threshold, 1e-9), ("min_effect", min_effect, 0)):
        if not value >= least:
            raise BadInput(name, value, f"give {least} or more")
    stamps, values, step_ms = checked(series)
    n = len(values)
    if int(np.isfinite(values).sum()) < MIN_SEASONS * season:
        why = f"history is too short: {int(np.isfinite(values).sum())} known points, {MIN_SEASONS * season} needed"
        return Detection((), why, 0, np.full(n, np.nan), np.full(n, np.nan))
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
    worth = np.abs(residual) >= min_effect * usual
    lasting = (np.abs(slow) >= threshold) & (np.abs(medians) >= min_effect * usual) & np.isfinite(scores)
    episodes: list[Anomaly] = []
    gap = max(1, min(season, MS_PER_DAY // step_ms) // 4)
    for sign in (1, -1):
        near = worth & (sign * scores >= threshold / 2)
        strong = worth & (sign * scores >= threshold) | lasting & (sign * slow > 0)
        for lo, hi in _merge(strong, near | strong, gap, causal=causal):
            peak = float(np.nanmax(np.maximum(sign * scores[lo:hi], sign * np.nan_to_num(slow[lo:hi]))))
            episodes.append(_episode(lo, hi, stamps, step_ms, values, expected, peak, sign, spread, window, unit))
    episodes.sort(key=lambda e: (e.start_ms, e.end_ms))
    judged = int(np.isfinite(scores).sum())
    why = "" if judged else f"history is too short: no point has enough of a past within {n} points of season {season}"
    return Detection(tuple(episodes), why, judged, expected, scores)


def _scores(residual: F64, spread: F64) -> F64:
    with np.errstate(over="ignore"):  # beside a spread of nothing: cut at MAX_SCORE like any other
        return np.clip(residual / spread, -MAX_SCORE, MAX_SCORE)


def _reference(values: F64, season: int, *, causal: bool) -> tuple[F64, F64]:
    """(level, season) for each point; NaN where the past (or, if not causal, the surroundings) is too short."""
    means = pd.Series(values).rolling(season, min_periods=max(1, season * 3 // 4)).mean()
    level = means.rolling(LEVEL_SEASONS * season, min_periods=max(1, season // 4)).median().shift(1)
    if not causal:
        level = level.bfill()
    lvl = level.to_numpy()
    above = np.full(len(values) + 2 * CYCLES * season, np.nan)  # NaN beyond both ends
    inner = slice(CYCLES * season, CYCLES * season + len(values))
    above[inner] = values - lvl
    # Never the point itself: among few cycles it would be its own median, and the residuals too small.
    shifts = range(-CYCLES, 0) if causal else [*range(-CYCLES // 2, 0), *range(1, CYCLES // 2 + 1)]
    cycles = np.stack([above[inner.start + k * season : inner.stop + k * season] for k in shifts])
    return lvl, _median(cycles, least=2)


def _median(stack: F64, least: int) -> F64:
    """Median down axis 0 without the NaNs; NaN where fewer than `least` are known."""
    ordered = np.sort(stack, axis=0)  # NaN last
    count = np.isfinite(stack).sum(axis=0)
    middle = np.maximum(count, 1)
    pair = np.stack([(middle - 1) // 2, middle // 2])
    return np.where(count >= least, np.take_along_axis(ordered, pair, axis=0).mean(axis=0), np.nan)


def _spread(residual: F64, level: F64, season: int, lag: int, *, causal: bool) -> F64:
    """A robust standard deviation of the residuals up to `lag` steps before each point; never 0.

    The lag keeps what may be the start of a long anomaly out of what it is measured by.
    """
    size = pd.Series(np.abs(residual)).rolling(CYCLES * season, min_periods=season)
    past = pd.DataFrame({"mad": size.median(), "tail": size.quantile(0.95), "mean": size.mean()}).shift(lag)
    if not causal:
        past = past.bfill()
    mad = _MAD_TO_SIGMA * past["mad"].to_numpy()
    sigma = np.clip(past["tail"].to_numpy() / _TAIL_TO_SIGMA, mad, MAX_TAIL * mad)
    # Rounding noise around a constant is no spread to measure by.
    tiny = 1e-6 * np.abs(level) + np.finfo(np.float64).tiny
    spread = np.where(mad > tiny, sigma, np.maximum(_MEAN_TO_SIGMA * past["mean"].to_numpy(), tiny))
    return np.where(np.isfinite(mad), spread, np.nan)


def _merge(
    strong: npt.NDArray[np.bool_], weak: npt.NDArray[np.bool_], gap: int, *, causal: bool
) -> list[tuple[int, int]]:
    """Runs of strong points, prolonged through weak ones, merged over `gap` steps or a quarter of the earlier run.

    Only hindsight may move a start back before the first strong point.
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
        f"{kind}: {mean:.4g}{label} a step, {change} the expected {usual:.4g}, for {_span(end - start)} from "
        f"{rfc3339(start)}; it usually strays by {noise:.2g} (score {peak:.1f})"
    )
    return Anomaly(
        start, end, kind, "up" if up else "down", usual, mean, excess, peak, hi == len(values), reason
    )  # fmt: skip


def _span(ms: int) -> str:
    for unit_ms, name in ((MS_PER_DAY, "day"), (MS_PER_HOUR, "hour"), (60_000, "minute")):
        if ms % unit_ms == 0 or ms >= 2 * unit_ms:
            count = round(ms / unit_ms, 1)
            return f"{count:g} {name}{'' if count == 1 else 's'}"
    return f"{ms / 1000:g} seconds"
