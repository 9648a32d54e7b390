"""Which candidate to believe: a rolling-origin backtest, the baselines always scored beside.

At each origin every candidate is fitted to what lay before and scored on what came after (Tashman 2000). Scores:

* MASE (Hyndman & Koehler 2006): mean |error| over the mean |y[t] - y[t-m]| of the first fold's training part, m the
  shortest season. One scale for all folds, so MASE, WAPE and the mean error rank alike. Below 1: better than that.
* WAPE: sum |error| / sum |actual|. sMAPE: mean of 2 |error| / (|actual| + |forecast|), 0 where both are 0.
* coverage: the share of points inside the 80 and 95 % intervals *after* calibration, where a fold's calibration comes
  from the other folds only.

Beside the candidates stands their pool, weighted inversely to squared error in the other folds. The winner is the
pool, unless a single candidate's error is below 1 - 1/folds of the pool's.

Calibration: model intervals are too wide or too narrow as often as not, so their half-widths are multiplied by the
factor that would have covered the backtest's points at the nominal rate (split-conformal scaling), shrunk towards 1
as folds are few, and kept within [1/4, 4].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forecasting.models import POOL, Pool, pooled
from forecasting.protocol import LEVELS, Model, Prediction, Unfit, conformal_quantile
from forecasting.series import F64

MAX_FOLDS = 8
_SHRINK_FOLDS = 2.0  # calibration from k folds counts k / (k + 2): two imaginary folds say that the model is right


@dataclass(frozen=True, slots=True)
class Score:
    """How one candidate did. All scores are ratios (0.05 is 5 %); None where undefined or not fitted."""

    name: str
    mase: float | None
    smape: float | None
    wape: float | None
    coverage_80: float | None
    coverage_95: float | None
    folds: int
    converged: bool
    """False: in at least one fold the optimiser stopped before it converged."""
    note: str
    """Why the candidate stood aside; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """Scores in the order of the candidates, the winner's name, and how it was tested."""

    scores: tuple[Score, ...]
    winner: str
    folds: int
    tested_horizon: int
    """Steps ahead that were tested; a forecast that reaches farther is extrapolated in that respect."""
    calibration: tuple[float, float]
    """What the winner's 80 and 95 % half-widths are multiplied by."""
    chosen: Model = field(repr=False, compare=False)
    """The winner itself, to be fitted to the whole history."""

    def score(self, name: str) -> Score:
        return next(s for s in self.scores if s.name == name)


@dataclass(frozen=True, slots=True)
class _Fold:
    actual: F64
    prediction: Prediction
    converged: bool


def origins(n: int, horizon: int, seasons: tuple[int, ...], folds: int = MAX_FOLDS) -> tuple[list[int], int]:
    """(where to cut, the horizon to test) for a history of `n` points. At most `folds` cuts, latest first.

    The tested horizon is at most a third of history; no fold trains on less than a third, or than two longest seasons.
    Cuts are whole (shortest) seasons apart and overlap where they must, so that they differ in age, not in phase.
    """
    season = seasons[0]
    first = max(2 * seasons[-1] + 2, n // 3)
    tested = max(1, min(horizon, n // 3, n - first))
    room = n - tested - first
    if room < 0:
        return [], tested
    stride = max(season, min(tested, room // max(1, folds - 1)) // season * season)
    return [n - tested - i * stride for i in range(min(folds, room // stride + 1))], tested


def backtest(
    values: F64, models: Sequence[Model], seasons: tuple[int, ...], horizon: int, folds: int = MAX_FOLDS
) -> Backtest | None:
    """Score every candidate on complete `values`; None where history allows no fold."""
    cuts, tested = origins(len(values), horizon, seasons, folds)
    if not cuts:
        return None
    first = values[: cuts[-1]]
    scale = float(np.abs(first[seasons[0] :] - first[: -seasons[0]]).mean())
    scores: list[Score] = []
    done: dict[str, list[_Fold]] = {}
    for model in models:
        try:
            done[model.name] = [_fold(model, values, cut, tested, seasons) for cut in cuts]
            scores.append(_score(model.name, done[model.name], scale))
        except Unfit as reason:
            scores.append(Score(model.name, None, None, None, None, None, 0, False, str(reason)))
    if not done:
        return None
    members = tuple(m for m in models if m.name in done)
    each = [done[m.name] for m in members]
    # Rounded, so that a tie is a tie and the simpler candidate wins it.
    errors = {name: round(_error(folds), 9) for name, folds in done.items()}
    winner = next(m for m in members if errors[m.name] == min(errors.values()))
    if len(members) > 1:
        done[POOL] = _pool_folds(each)
        scores.append(_score(POOL, done[POOL], scale))
        # The best of few folds is often just lucky: alone it cost 7 % in held-out error (docs/forecasting.md).
        if errors[winner.name] > (1 - 1 / len(cuts)) * _error(done[POOL]):
            winner = Pool(members, _weights(each))
    return Backtest(tuple(scores), winner.name, len(cuts), tested, calibration(done[winner.name]), winner)


def _pool_folds(each: Sequence[Sequence[_Fold]]) -> list[_Fold]:
    """The pool's folds, from its members': a fold's weights come from the other folds, as its score must be."""
    out = []
    for i, parts in enumerate(zip(*each, strict=True)):
        weights = _weights([[*folds[:i], *folds[i + 1 :]] for folds in each])
        joint = pooled([p.prediction for p in parts], weights)
        out.append(_Fold(parts[0].actual, joint, all(p.converged for p in parts)))
    return out


def _weights(each: Sequence[Sequence[_Fold]]) -> tuple[float, ...]:
    """Inversely as the squared mean error over the folds; equal where there is no fold to judge by."""
    errors = np.array([_error(folds) if folds else 1.0 for folds in each])
    inverse = np.maximum(errors, 1e-6) ** -2.0  # 1e-6 of the mean: as good as exact
    return tuple(float(w) for w in inverse / inverse.sum())


def calibrated(prediction: Prediction, factor: tuple[float, float]) -> Prediction:
    """The same mean with half-widths multiplied; the 95 % interval still holds the 80 % one."""
    factors = np.asarray(factor)[:, None]
    lower = prediction.mean - (prediction.mean - prediction.lower) * factors
    upper = prediction.mean + (prediction.upper - prediction.mean) * factors
    lower[1], upper[1] = np.minimum(lower[1], lower[0]), np.maximum(upper[1], upper[0])
    return Prediction(prediction.mean, lower, upper)


def calibration(folds: Sequence[_Fold]) -> tuple[float, float]:
    """The factors for the 80 and 95 % half-widths that these folds ask for; 1 where they say nothing."""
    out = []
    for i, level in enumerate(LEVELS):
        sizes = np.concatenate([_relative_errors(fold, i) for fold in folds]) if folds else np.zeros(0)
        asked = conformal_quantile(sizes, level) if len(sizes) else 1.0
        out.append(float(np.clip(asked, 0.25, 4.0) ** trust(len(folds))))
    return out[0], out[1]


def trust(folds: int) -> float:
    """How far to believe a factor learned from so many folds: the exponent it is raised to, 0 to 1."""
    return folds / (folds + _SHRINK_FOLDS)


def _relative_errors(fold: _Fold, level: int) -> F64:
    """|error| over the half-width on its side; points with no width are left out (nothing to scale)."""
    error = fold.actual - fold.prediction.mean
    half = np.where(
        error >= 0,
        fold.prediction.upper[level] - fold.prediction.mean,
        fold.prediction.mean - fold.prediction.lower[level],
    )
    wide = half > 0
    sizes: F64 = np.abs(error[wide]) / half[wide]
    return sizes


def _fold(model: Model, values: F64, cut: int, tested: int, seasons: tuple[int, ...]) -> _Fold:
    fitted = model.fit(values[:cut], seasons)
    return _Fold(values[cut : cut + tested], fitted.predict(tested), fitted.converged)


def _error(folds: Sequence[_Fold]) -> float:
    return float(np.mean([np.abs(f.actual - f.prediction.mean) for f in folds]))


def _score(name: str, folds: Sequence[_Fold], scale: float) -> Score:
    actual = np.concatenate([f.actual for f in folds])
    mean = np.concatenate([f.prediction.mean for f in folds])
    size = np.abs(actual - mean)
    both = np.abs(actual) + np.abs(mean)
    inside = np.zeros((len(LEVELS), len(actual)), bool)
    at = 0
    for i, fold in enumerate(folds):
        fitted = calibrated(fold.prediction, calibration([*folds[:i], *folds[i + 1 :]]))
        slack = 1e-9  # rounding, on values of order 1
        inside[:, at : at + len(fold.actual)] = (fold.actual >= fitted.lower - slack) & (
            fold.actual <= fitted.upper + slack
        )
        at += len(fold.actual)
    covered = inside.mean(axis=1)
    total = float(np.abs(actual).sum())
    error = float(size.mean())
    return Score(
        name=name,
        mase=error / scale if scale > 0 else (0.0 if error == 0 else None),
        smape=float(np.divide(2 * size, both, out=np.zeros_like(size), where=both > 0).mean()),
        wape=float(size.sum()) / total if total > 0 else (0.0 if error == 0 else None),
        coverage_80=float(covered[0]),
        coverage_95=float(covered[1]),
        folds=len(folds),
        converged=all(f.converged for f in folds),
        note="",
    )  # fmt: skip
