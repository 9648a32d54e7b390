"""Integers over time: spread an amount over windows, share a total by weights. Nothing is lost to rounding.

Both work on whole columns. Neither ever multiplies two large numbers in int64: see `_scaled` and `share`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from contracts.units import I64


def _scaled(amount: I64, part: I64, whole: I64) -> I64:
    """floor(amount * part / whole), exactly, for 0 <= part <= whole and amount < 2^62, whole < 2^31.

    amount = q * whole + r, hence amount * part / whole = q * part + r * part / whole, where both terms fit in int64.
    """
    q, r = np.divmod(amount, whole)
    return q * part + (r * part) // whole


def pieces(t0_ms: I64, t1_ms: I64, window_ms: int) -> tuple[npt.NDArray[np.intp], I64]:
    """Which windows each half-open `[t0, t1)` touches: (row, window number), row by row in time order.

    An empty span (t0 == t1) lies in the one window that holds its instant.
    """
    first = t0_ms // window_ms
    count = np.maximum(t1_ms - 1, t0_ms) // window_ms - first + 1
    row = np.repeat(np.arange(len(first), dtype=np.intp), count)
    start_of_row = np.cumsum(count) - count
    return row, first[row] + (np.arange(len(row), dtype=np.int64) - start_of_row[row])


def spread(amount: I64, p0_ms: I64, p1_ms: I64, row: npt.NDArray[np.intp], window: I64, window_ms: int) -> I64:
    """Each row's `amount`, spread evenly over `[p0, p1)`, per piece of `pieces()`.

    The piece of a window is the difference of two floors of the running total, so the pieces of a row sum to its
    amount exactly, whatever the windows. `[p0, p1)` lies within the row's span; an empty one is a step at p0.
    """
    if len(row) == len(amount):
        return amount
    first = starts(row)
    boundary = window * window_ms
    p0, p1, whole = p0_ms[row], p1_ms[row], amount[row]
    length = np.maximum(p1 - p0, 1)
    done = _scaled(whole, np.clip(boundary - p0, 0, length), length)
    done = np.where(boundary <= p0, 0, np.where(boundary >= p1, whole, done))
    done[first] = 0
    until = np.empty_like(done)
    until[:-1] = done[1:]
    last = ends(row)
    until[last] = whole[last]
    part: I64 = until - done
    return part


def spread_intervals(
    amounts: Sequence[I64], t0_ms: I64, t1_ms: I64, window_ms: int
) -> tuple[npt.NDArray[np.intp] | None, I64, list[I64]]:
    """(row, window number, each amount) of the pieces of half-open `[t0, t1)`s; row is None where each is one piece.

    Most lie within one window: only those that do not are cut. The pieces of a row stand anywhere.
    """
    first = t0_ms // window_ms
    cut = np.flatnonzero((t1_ms - 1) // window_ms > first)
    if not len(cut):
        return None, first, list(amounts)
    t0, t1 = t0_ms[cut], t1_ms[cut]
    row, window = pieces(t0, t1, window_ms)
    whole = np.ones(len(first), np.bool_)
    whole[cut] = False
    rest = np.flatnonzero(whole)
    parts = [
        np.concatenate([a[rest], spread(a[cut], t0, t1, row, window, window_ms) if a.any() else np.zeros_like(window)])
        for a in amounts
    ]
    return np.concatenate([rest, cut[row]]), np.concatenate([first[rest], window]), parts


def starts(row: npt.NDArray[np.intp] | I64) -> npt.NDArray[np.bool_]:
    """Where a run of equal numbers begins."""
    found = np.ones(len(row), np.bool_)
    np.not_equal(row[1:], row[:-1], out=found[1:])
    return found


def ends(row: npt.NDArray[np.intp] | I64) -> npt.NDArray[np.bool_]:
    """Where a run of equal numbers ends."""
    found = np.ones(len(row), np.bool_)
    np.not_equal(row[1:], row[:-1], out=found[:-1])
    return found


def share(
    total: I64,
    group: npt.NDArray[np.intp],
    weight: I64,
    canonical: Callable[[npt.NDArray[np.intp]], Sequence[int]] | None = None,
) -> I64:
    """Share each group's `total[group]` among its members by `weight`: largest remainder, parts summing to the whole.

    `group` numbers the members' groups. Equal remainders are served in canonical order: the members' own, or where
    that is dear, `canonical(members)` puts some into it when it is needed. A group whose weights are all 0 gets
    nothing: the caller decides who pays then.

    The quotient is estimated in floating point and put right by the exact remainder, which wrap-around arithmetic
    gives modulo 2^64: exact for total < 2^62 and a sum of weights < 2^50. Weights of a group that sum to more lose
    low bits (all alike, so their ratios stand to 1 in 2^49).
    """
    if not len(group):
        return np.zeros(0, np.int64)
    if total.max(initial=0) >= 2**62:
        raise OverflowError("share: a total is 2^62 or more")
    weight = _fit(weight, group, len(total))
    whole = _sums(weight, group, len(total))
    divisor, dividend = np.maximum(whole[group], 1), total[group]
    part: I64 = (dividend.astype(np.float64) * weight / divisor).astype(np.int64)
    remainder = dividend * weight - part * divisor
    off = np.flatnonzero((remainder < 0) | (remainder >= divisor))  # The estimate is seldom off.
    correction, remainder[off] = np.divmod(remainder[off], divisor[off])
    part[off] += correction
    part[whole[group] == 0] = 0

    left = np.where(whole > 0, total, 0) - _sums(part, group, len(total))
    open_ = np.flatnonzero(left[group] > 0)
    order = open_[_by_remainder(group[open_], remainder[open_], divisor[open_], stable=canonical is None)]
    ordered = group[order]
    first = np.flatnonzero(starts(ordered)) if len(order) else np.zeros(0, np.intp)
    count = np.diff(np.append(first, len(order)))
    rank = np.arange(len(order)) - np.repeat(first, count)
    if canonical is not None:
        _break_ties(order, remainder, first, left[ordered[first]], count, canonical)
    part[order[rank < left[ordered]]] += 1
    return part


def _by_remainder(group: npt.NDArray[np.intp], remainder: I64, divisor: I64, *, stable: bool) -> npt.NDArray[np.intp]:
    """Members group by group, greater remainders first; with `stable`, equal ones as they stand.

    One float says both nearly always, and sorting floats is ten times as fast. Where two are too close for it, or
    equal ones must keep their order, it is sorted by the integers.
    """
    order = np.argsort(group - remainder / divisor)
    groups, ranked = group[order], remainder[order]
    wrong = ranked[1:] >= ranked[:-1] if stable else ranked[1:] > ranked[:-1]
    if (wrong & (groups[1:] == groups[:-1])).any() or (groups[1:] < groups[:-1]).any():
        return np.lexsort((-remainder, group))
    return order


def _break_ties(
    order: npt.NDArray[np.intp],
    remainder: I64,
    first: npt.NDArray[np.intp],
    left: I64,
    count: npt.NDArray[np.intp],
    canonical: Callable[[npt.NDArray[np.intp]], Sequence[int]],
) -> None:
    """Put members of `order` whose equal remainders decide who is served last into canonical order, group by group."""
    inside = left < count
    last = (first + left - 1)[inside]
    tied = remainder[order[last]] == remainder[order[last + 1]]
    for begin, end, at in zip(
        first[inside][tied].tolist(), (first + count)[inside][tied].tolist(), last[tied].tolist(), strict=True
    ):
        same = np.flatnonzero(remainder[order[begin:end]] == remainder[order[at]]) + begin
        order[same] = order[same][canonical(order[same])]


def _sums(values: I64, group: npt.NDArray[np.intp], groups: int) -> I64:
    out = np.zeros(groups, np.int64)
    np.add.at(out, group, values)
    return out


def _fit(weight: I64, group: npt.NDArray[np.intp], groups: int) -> I64:
    """Weights with enough low bits dropped, group by group, that each group's sum stays below 2^50."""
    _, exponent = np.frexp(_sums(weight, group, groups).astype(np.float64))
    drop = np.maximum(exponent - 49, 0).astype(np.int64)
    fitted: I64 = weight >> drop[group] if drop.any() else weight
    return fitted
