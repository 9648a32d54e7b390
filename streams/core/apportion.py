"""Integers over time: spread an amount over windows, share a total by weights. Nothing is lost to rounding.

Both work on whole columns. Neither ever multiplies two large numbers in int64: see `_scaled` and `apportion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from contracts.units import I64


def _scaled(amount: I64, part: I64, whole: I64) -> I64:
    """floor(amount * part / whole), exactly, for 0 <= part <= whole and amount < 2^62, whole < 2^31.

    amount = q * whole + r, hence amount * part / whole = q * part + r * part / whole, where both terms fit in int64.
    Where the product itself fits, as it does of seconds and kilojoules, one division is enough.
    """
    if int(amount.max(initial=0)) * int(part.max(initial=0)) < 2**63:
        return amount * part // whole
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


@dataclass(frozen=True)
class SpanCuts:
    """How spans `[p0, p1)` fall into the pieces that `pieces()` made of their rows: per piece, its row, how much of the
    row's span lies before the piece's window, and the span's length. The same for every amount that is spread."""

    row: npt.NDArray[np.intp]
    before: I64
    length: I64
    last: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, p0_ms: I64, p1_ms: I64, row: npt.NDArray[np.intp], window: I64, window_ms: int) -> Self:
        """`[p0, p1)` lies within its row; an empty one is a step at p0."""
        length = np.maximum(p1_ms - p0_ms, 1)[row]
        return cls(row, np.clip(window * window_ms - p0_ms[row], 0, length), length, ends(row))

    def parts(self, amount: I64) -> I64:
        """Each row's `amount`, spread evenly over its span, per piece.

        The piece of a window is the difference of two floors of the running total, so the pieces of a row sum to its
        amount exactly, whatever the windows.
        """
        if not amount.any():
            return np.zeros(len(self.row), np.int64)
        whole = amount[self.row]
        done = _scaled(whole, self.before, self.length)
        until = np.empty_like(done)
        until[:-1] = done[1:]
        until[self.last] = whole[self.last]
        until -= done
        return until


def spread_intervals(
    amounts: Sequence[I64], t0_ms: I64, t1_ms: I64, window_ms: int
) -> tuple[npt.NDArray[np.intp] | None, I64, list[I64]]:
    """(row, window number, each amount) of the pieces of half-open `[t0, t1)`s; row is None where each is one piece.

    Most lie within one window: only those that do not are cut. The pieces of a row stand anywhere.
    """
    first = t0_ms // window_ms
    whole = (t1_ms - 1) // window_ms <= first
    cut = np.flatnonzero(~whole)
    if not len(cut):
        return None, first, list(amounts)
    t0, t1 = t0_ms[cut], t1_ms[cut]
    row, window = pieces(t0, t1, window_ms)
    rest, cuts = np.flatnonzero(whole), SpanCuts.of(t0, t1, row, window, window_ms)
    parts = [np.concatenate([a[rest], cuts.parts(a[cut])]) for a in amounts]
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


Canonical = Callable[[npt.NDArray[np.intp]], Sequence[int]]


def apportion(total: I64, group: npt.NDArray[np.intp], weight: I64, canonical: Canonical | None = None) -> I64:
    """Share each group's `total[group]` among its members by `weight`: largest remainder, parts summing to the whole.

    `group` numbers the members' groups. Equal remainders are served in canonical order: the members' own, or where
    that is dear, `canonical(members)` puts some into it when it is needed. A group whose weights are all 0 gets
    nothing: the caller decides who pays then.

    The quotient is estimated in floating point and put right by the exact remainder, which wrap-around arithmetic
    gives modulo 2^64: exact for total < 2^62 and a sum of weights < 2^50. Weights of a group that sum to more lose
    low bits (all alike, so their ratios stand to 1 in 2^49).
    """
    return apportion_each((total,), group, weight, canonical)[0]


def apportion_each(
    totals: Iterable[I64], group: npt.NDArray[np.intp], weight: I64, canonical: Canonical | None = None
) -> list[I64]:
    """`apportion` of several totals, each by the same weights."""
    whole = divisor = np.zeros(0, np.int64)
    parts: list[I64] = []
    for total in totals:
        if total.max(initial=0) >= 2**62:
            raise OverflowError("share: a total is 2^62 or more")
        if not len(group):
            parts.append(np.zeros(0, np.int64))
            continue
        if not len(whole):
            weight = _fit(weight, group, len(total))
            whole = _sums(weight, group, len(total))
            divisor = np.maximum(whole, 1)[group]
        parts.append(_share(np.where(whole > 0, total, 0), group, weight, divisor, canonical))
    return parts


def _share(total: I64, group: npt.NDArray[np.intp], weight: I64, divisor: I64, canonical: Canonical | None) -> I64:
    """`divisor` is the sum of each member's group's weights, or 1 where that is 0: then the group's total is 0 too."""
    dividend = total[group]
    part: I64 = (dividend.astype(np.float64) * weight / divisor).astype(np.int64)
    remainder = dividend * weight - part * divisor
    off = np.flatnonzero((remainder < 0) | (remainder >= divisor))  # The estimate is seldom off.
    correction, remainder[off] = np.divmod(remainder[off], divisor[off])
    part[off] += correction

    left = total - _sums(part, group, len(total))
    open_ = np.flatnonzero(left[group] > 0)
    if not len(open_):
        return part
    order = open_[_by_remainder(group[open_], remainder[open_], divisor[open_], stable=canonical is None)]
    ordered = group[order]
    first = np.flatnonzero(starts(ordered))
    count = np.diff(np.append(first, len(order)))
    if canonical is not None:
        _break_ties(order, remainder, first, left[ordered[first]], count, canonical)
    rank = np.arange(len(order)) - np.repeat(first, count)
    part[order[rank < np.repeat(left[ordered[first]], count)]] += 1
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
    canonical: Canonical,
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
