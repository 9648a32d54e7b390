"""Differences of two series: gross hours, a share that is lost, a shift in time, a constant ratio. Pure.

Two honest counts of one thing differ at the hours' edges: a request that runs across an edge, a scraper's look before
it. So an hour's excess is another hour's deficit, and the sum of all differences stays within what is in flight at an
edge, however long one sums. What is lost or doubled adds up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from warehouse.reconciliation.witnesses import F64

Indexes = npt.NDArray[np.int64]

CARRY_H = 3
"""Hours within which an excess and a deficit are the same requests at another hour's edge."""
LONGEST_H = 6
"""The same for tokens: one source counts them when a request begins, another while it runs, and it runs 6 h at most."""


class Leak(NamedTuple):
    """Share of all that is counted by which one series falls short, the hours by which it lags, and their errors.

    `in_a_day` is the difference of the last day's sums, between edges at the same time of the day.
    """

    share: float
    share_error: float
    lag_h: float
    lag_error_h: float
    in_a_day: float


def typical(volume: F64) -> float:
    """Return what an hour has: the median, or a tenth of the largest hour where most are empty."""
    return max(float(np.median(volume)), 0.1 * float(volume.max(initial=0.0)), 1.0)


def without_carry(difference: F64, carry_h: int) -> F64:
    """Return the differences of each hour that no opposite difference within `carry_h` makes up for."""
    left = difference.copy()
    for gap in range(1, carry_h + 1):
        for i in range(len(left) - gap):
            if left[i] * left[i + gap] < 0:
                moved = min(abs(left[i]), abs(left[i + gap]))
                left[i] -= np.copysign(moved, left[i])
                left[i + gap] -= np.copysign(moved, left[i + gap])
    return left


def gross_hours(a: F64, b: F64, share: float, carry_h: int) -> Indexes:
    """Return the hours in which two series differ by more than a share of the hour's, or of a typical hour's amount."""
    difference = without_carry(a - b, carry_h)
    volume = np.minimum(np.maximum(a, b), 100 * np.minimum(np.maximum(a, 1), np.maximum(b, 1)))
    bound = share * np.maximum(volume, typical(np.minimum(a, b) if np.median(b) > 0 else np.maximum(a, b)))
    return np.flatnonzero(np.abs(difference) > bound)


def is_bursty(volume: F64) -> bool:
    """Return True where an hour tells little of the next one, unlike a day's rhythm."""
    return bool(len(volume) > 2 and np.mean(np.abs(np.diff(volume))) > 0.45 * max(float(np.mean(volume)), 1e-9))


def leak(a: F64, b: F64, recent_h: int) -> Leak | None:
    """Fit what is lost, and the lag, in the last `recent_h` hours; the hours before tell what is usual.

    The running sum of differences grows with the sum of amounts where a share is lost, and goes with the flow at each
    hour's edge where one series runs behind. None where there is too little to tell. Positive: the first counts more,
    and runs ahead.
    """
    volume = (a + b) / 2
    n = len(a)
    before_h = n - recent_h
    if recent_h < 12 or before_h < 6 or volume[before_h:].sum() <= 0:
        return None
    scale = float(volume.sum())
    recent = np.arange(n) >= before_h
    edge = (volume + np.append(volume[1:], volume[-1])) / 2
    flow = edge / typical(edge)
    total, total_recent = np.cumsum(volume) / scale, np.cumsum(volume * recent) / scale
    sums = np.cumsum(a - b)
    weight = 1 / np.sqrt(edge + typical(edge) / 10)
    share = _fit(np.stack([np.ones(n), total, total_recent, flow], axis=1), sums, weight)
    lag = _fit(np.stack([np.ones(n), total, total_recent, flow, flow * recent], axis=1), sums, weight)
    if share is None or lag is None:
        return None
    of_share, of_lag = np.array([0, 1, 1, 0]), np.array([0, 0, 0, 1, 1])
    return Leak(
        float(of_share @ share[0]) / scale, float(np.sqrt(of_share @ share[1] @ of_share)) / scale,
        float(of_lag @ lag[0]) / typical(edge), float(np.sqrt(of_lag @ lag[1] @ of_lag)) / typical(edge),
        _in_a_day(sums - share[0][3] * flow, float(of_share @ share[0])),
    )  # fmt: skip


def _in_a_day(sums: F64, share: float) -> float:
    """Return the second least of five differences over a day, as the share has it: one edge may be far off, not four.

    An edge is uncertain by when the last look before it was, which busy hours make many requests of.
    """
    n = len(sums)
    differences = [float(sums[n - 1 - k] - sums[n - 25 - k]) for k in range(min(5, n - 25))]
    return sorted(differences, reverse=share < 0)[1] if len(differences) == 5 else 0.0


def _fit(columns: F64, sums: F64, weight: F64) -> tuple[F64, F64] | None:
    """Return coefficients and their covariance. Edges that a missed look moved far are left out."""
    near = np.ones(len(sums), np.bool_)
    for _ in range(2):
        left, right = (columns * weight[:, None])[near], (sums * weight)[near]
        fit, _, rank, _ = np.linalg.lstsq(left, right, rcond=1e-9)
        if rank < columns.shape[1] or near.sum() < columns.shape[1] + 8:
            return None
        residuals = (sums - columns @ fit) * weight
        near = np.abs(residuals) <= 6 * max(float(np.median(np.abs(residuals))), 1e-6)
    residuals = right - left @ fit
    variance = max(float(residuals @ residuals) / (len(residuals) - columns.shape[1]), 0.25 * float(np.mean(weight**2)))
    return np.asarray(fit), np.asarray(np.linalg.pinv(left.T @ left) * variance)


def constant_ratio(a: F64, b: F64, spread: float = 0.08) -> float | None:
    """Return the ratio of two series where it is the same in (almost) all hours; None where it varies."""
    known = (a > 0) & (b > 0)
    if known.sum() < 2:
        return None
    logs = np.log(a[known] / b[known])
    middle = float(np.median(logs))
    return float(np.exp(middle)) if np.median(np.abs(logs - middle)) <= spread else None


def best_shift(a: F64, b: F64, limit_h: int = 14) -> tuple[float, float, float]:
    """Return the hours by which `a` runs behind `b`, in quarters, with the error there and the error without a shift.

    Errors are sums of absolute differences over the sum of amounts. `b` may have more hours before: both end together.
    """
    errors = []
    n = len(a)
    for quarter in range(-4 * limit_h, 4 * limit_h + 1):
        shift = quarter / 4
        hours, part = int(np.floor(shift)), shift - np.floor(shift)
        index = np.arange(len(b) - n, len(b)) - hours
        inside = (index >= 1) & (index < len(b))
        if inside.sum() < max(8, n // 2):
            continue
        moved = (1 - part) * b[index[inside]] + part * b[index[inside] - 1]
        amount = float(np.maximum(a[inside], moved).sum())
        errors.append((float(np.abs(a[inside] - moved).sum()) / max(amount, 1.0), abs(shift), shift))
    if not errors:
        return 0.0, 1.0, 1.0
    error, _, shift = min(errors)
    unshifted = next((e for e, _, s in errors if s == 0), 1.0)
    return shift, error, unshifted
