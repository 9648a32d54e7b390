"""Rolling-origin backtest that chooses among candidate models and calibrates the winner's intervals.

At each origin, every candidate is fitted to the past and scored on the future (Tashman 2000). The scores:

* MASE (Hyndman & Koehler 2006): Mean |error| divided by the mean |y[t] - y[t-m]| of the first fold's training part,
  where m is the shortest season. All folds share this scale, so MASE, WAPE and the mean error rank candidates alike.
  Below 1 a candidate beats the seasonal naive forecast.
* WAPE: Sum of |error| divided by the sum of |actual|.
* sMAPE: Mean of 2 |error| / (|actual| + |forecast|), and 0 where both are 0.
* Coverage: Share of points inside the calibrated 80 and 95 % intervals. The other folds alone calibrate a fold.

The baselines are always scored too, and so is the pool: all candidates, weighted inversely to their squared error in
the other folds. The pool wins unless a single candidate's error is below 1 - 1/folds of the pool's.

Calibration corrects model intervals, which are often too wide or too narrow. It multiplies their half-widths by the
factor that would have covered the backtest's points at the nominal rate (split-conformal scaling). The fewer the
folds, the more the factor is shrunk towards 1. It stays within [1/4, 4].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forecasting.model_interface import LEVELS, CannotFit, ForecastModel, Prediction, conformal_quantile
from forecasting.models import POOL, Pool, pooled
from forecasting.series import F64

MAX_FOLDS = 8
# Calibration from k folds has weight k / (k + 2), as if two more folds had found the intervals correct.
_SHRINK_FOLDS = 2.0


@dataclass(frozen=True, slots=True)
class BacktestScore:
    """Scores of one candidate: ratios (0.05 is 5 %), None where undefined or not fitted."""

    name: str
    mase: float | None
    smape: float | None
    wape: float | None
    coverage_80: float | None
    coverage_95: float | None
    folds: int
    converged: bool
    """False if the optimiser stopped early in at least one fold."""
    note: str
    """Reason why the candidate could not be fitted; empty if it was."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """Scores in the order of the candidates, the winner, and the extent of the test."""

    scores: tuple[BacktestScore, ...]
    winner: str
    folds: int
    tested_horizon: int
    """Steps ahead that were tested. Scores say nothing about steps farther ahead."""
    calibration: tuple[float, float]
    """Factors for the winner's 80 and 95 % half-widths."""
    winning_model: ForecastModel = field(repr=False, compare=False)
    """The winner, to be fitted to the entire history."""

    def score(self, name: str) -> BacktestScore:
        """Return the score of the candidate with this name."""
        return next(s for s in self.scores if s.name == name)


@dataclass(frozen=True, slots=True)
class _Fold:
    actual: F64
    prediction: Prediction
    converged: bool


def origins(n: int, horizon: int, seasons: tuple[int, ...], folds: int = MAX_FOLDS) -> tuple[list[int], int]:
    """Return (cuts, tested horizon) for a history of `n` points: at most `folds` cuts, latest first.

    The tested horizon is at most a third of the history. Every fold trains on a third or more, and on two longest
    seasons or more. Cuts are multiples of the shortest season apart and may overlap: they differ in age, not in phase.
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
    values: F64, models: Sequence[ForecastModel], seasons: tuple[int, ...], horizon: int, folds: int = MAX_FOLDS
) -> Backtest | None:
    """Score every candidate on `values` without gaps. Return None if history is too short for a single fold."""
    cuts, tested = origins(len(values), horizon, seasons, folds)
    if not cuts:
        return None
    first = values[: cuts[-1]]
    scale = float(np.abs(first[seasons[0] :] - first[: -seasons[0]]).mean())
    scores: list[BacktestScore] = []
    model_folds: dict[str, list[_Fold]] = {}
    for model in models:
        try:
            model_folds[model.name] = [_fold(model, values, cut, tested, seasons) for cut in cuts]
            scores.append(_score(model.name, model_folds[model.name], scale))
        except CannotFit as reason:
            scores.append(
                BacktestScore(
                    name=model.name,
                    mase=None,
                    smape=None,
                    wape=None,
                    coverage_80=None,
                    coverage_95=None,
                    folds=0,
                    converged=False,
                    note=str(reason),
                )
            )
    if not model_folds:
        return None
    members = tuple(m for m in models if m.name in model_folds)
    member_folds = [model_folds[m.name] for m in members]
    # Rounded so that the earlier, simpler candidate wins a tie.
    errors = {name: round(_error(folds), 9) for name, folds in model_folds.items()}
    winner = next(m for m in members if errors[m.name] == min(errors.values()))
    if len(members) > 1:
        model_folds[POOL] = _pool_folds(member_folds)
        scores.append(_score(POOL, model_folds[POOL], scale))
        # The best of few folds is often just lucky: alone it cost 7 % in held-out error (docs/forecasting.md).
        if errors[winner.name] > (1 - 1 / len(cuts)) * _error(model_folds[POOL]):
            winner = Pool(members, _weights(member_folds))
    return Backtest(tuple(scores), winner.name, len(cuts), tested, calibration(model_folds[winner.name]), winner)


def _pool_folds(member_folds: Sequence[Sequence[_Fold]]) -> list[_Fold]:
    """Combine the members' folds. The weights of a fold come from the other folds, so that its score stays honest."""
    out = []
    for i, parts in enumerate(zip(*member_folds, strict=True)):
        weights = _weights([[*folds[:i], *folds[i + 1 :]] for folds in member_folds])
        joint = pooled([p.prediction for p in parts], weights)
        out.append(_Fold(parts[0].actual, joint, all(p.converged for p in parts)))
    return out


def _weights(member_folds: Sequence[Sequence[_Fold]]) -> tuple[float, ...]:
    """Return weights inverse to each member's squared mean error; equal weights without folds."""
    errors = np.array([_error(folds) if folds else 1.0 for folds in member_folds])
    inverse = np.maximum(errors, 1e-6) ** -2.0  # An error of 1e-6 of the mean counts as exact.
    return tuple(float(w) for w in inverse / inverse.sum())


def calibrated(prediction: Prediction, factor: tuple[float, float]) -> Prediction:
    """Multiply the half-widths by `factor`. The mean stays, and the 95 % interval still contains the 80 % one."""
    factors = np.asarray(factor)[:, None]
    lower = prediction.mean - (prediction.mean - prediction.lower) * factors
    upper = prediction.mean + (prediction.upper - prediction.mean) * factors
    lower[1], upper[1] = np.minimum(lower[1], lower[0]), np.maximum(upper[1], upper[0])
    return Prediction(prediction.mean, lower, upper)


def calibration(folds: Sequence[_Fold]) -> tuple[float, float]:
    """Return the factors for the 80 and 95 % half-widths that these folds suggest; 1 without evidence."""
    out = []
    for i, level in enumerate(LEVELS):
        sizes = np.concatenate([_relative_errors(fold, i) for fold in folds]) if folds else np.zeros(0)
        factor = conformal_quantile(sizes, level) if len(sizes) else 1.0
        out.append(float(np.clip(factor, 0.25, 4.0) ** trust(len(folds))))
    return out[0], out[1]


def trust(folds: int) -> float:
    """Return the weight, 0 to 1, of a factor learned from this many folds: the exponent to raise it to."""
    return folds / (folds + _SHRINK_FOLDS)


def _relative_errors(fold: _Fold, level: int) -> F64:
    """Return |error| / half-width on the error's side. Points without any width are left out: nothing to scale."""
    error = fold.actual - fold.prediction.mean
    half = np.where(
        error >= 0,
        fold.prediction.upper[level] - fold.prediction.mean,
        fold.prediction.mean - fold.prediction.lower[level],
    )
    wide = half > 0
    sizes: F64 = np.abs(error[wide]) / half[wide]
    return sizes


def _fold(model: ForecastModel, values: F64, cut: int, tested: int, seasons: tuple[int, ...]) -> _Fold:
    fitted = model.fit(values[:cut], seasons)
    return _Fold(values[cut : cut + tested], fitted.predict(tested), fitted.converged)


def _error(folds: Sequence[_Fold]) -> float:
    return float(np.mean([np.abs(f.actual - f.prediction.mean) for f in folds]))


def _score(name: str, folds: Sequence[_Fold], scale: float) -> BacktestScore:
    actual = np.concatenate([f.actual for f in folds])
    mean = np.concatenate([f.prediction.mean for f in folds])
    size = np.abs(actual - mean)
    both = np.abs(actual) + np.abs(mean)
    inside = np.zeros((len(LEVELS), len(actual)), bool)
    at = 0
    for i, fold in enumerate(folds):
        fitted = calibrated(fold.prediction, calibration([*folds[:i], *folds[i + 1 :]]))
        slack = 1e-9  # For rounding: values are of order 1.
        inside[:, at : at + len(fold.actual)] = (fold.actual >= fitted.lower - slack) & (
            fold.actual <= fitted.upper + slack
        )
        at += len(fold.actual)
    covered = inside.mean(axis=1)
    total = float(np.abs(actual).sum())
    error = float(size.mean())
    return BacktestScore(
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
