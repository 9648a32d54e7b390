"""Apportion totals by weights, in exact integers: the largest remainder method. Parts sum to their total.

It works on columns and never multiplies two large numbers in int64: see `apportion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from streams.core.equal_runs import run_starts

Canonical = Callable[[npt.NDArray[np.intp]], Sequence[int]]
"""Returns the canonical order of some members, as indices into its argument."""


def apportion(total: I64, group: npt.NDArray[np.intp], weight: I64, canonical: Canonical | None = None) -> I64:
    """Return each member's part of its group's total, by weight: largest remainder, parts summing to the total.

    `total` is by group; `group` and `weight` are by member, `group` numbering each member's group. Equal remainders are
    served in canonical order: the order of the members, or, where sorting all of them is expensive, the order in which
    `canonical(members)` puts those few where it matters. A group whose weights are all 0 gets nothing: the caller
    decides who pays then.

    The quotient is estimated in floating point and corrected by the exact remainder, which wrap-around arithmetic gives
    modulo 2^64. That is exact for totals < 2^62 and sums of weights < 2^50. Weights of a group that sum to more lose
    low bits, all alike, so their ratios are exact to 1 in 2^49. Raises OverflowError for a total of 2^62 or more.
    """
    return apportion_each((total,), group, weight, canonical)[0]


def apportion_each(
    totals: Iterable[I64], group: npt.NDArray[np.intp], weight: I64, canonical: Canonical | None = None
) -> list[I64]:
    """Return `apportion` of several totals, all by the same weights."""
    weight_sum = divisor = np.zeros(0, np.int64)
    parts: list[I64] = []
    for total in totals:
        if total.max(initial=0) >= 2**62:
            raise OverflowError("apportion: a total is 2^62 or more")
        if not len(group):
            parts.append(np.zeros(0, np.int64))
            continue
        if not len(weight_sum):
            weight = _fit(weight, group, len(total))
            weight_sum = _sums(weight, group, len(total))
            divisor = np.maximum(weight_sum, 1)[group]
        parts.append(_apportion(np.where(weight_sum > 0, total, 0), group, weight, divisor, canonical))
    return parts


def _apportion(total: I64, group: npt.NDArray[np.intp], weight: I64, divisor: I64, canonical: Canonical | None) -> I64:
    """Apportion one total. `divisor` is, by member, the sum of its group's weights, or 1 where the total is 0."""
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
    first = np.flatnonzero(run_starts(ordered))
    count = np.diff(np.append(first, len(order)))
    if canonical is not None:
        _break_ties(order, remainder, first, left[ordered[first]], count, canonical)
    rank = np.arange(len(order)) - np.repeat(first, count)
    part[order[rank < np.repeat(left[ordered[first]], count)]] += 1
    return part


def _by_remainder(group: npt.NDArray[np.intp], remainder: I64, divisor: I64, *, stable: bool) -> npt.NDArray[np.intp]:
    """Return the order of members group by group, greater remainders first. `stable` keeps equal ones in their order.

    One float per member decides nearly always, and sorting floats is ten times as fast. The integers are sorted only
    where two members are too close for it, or where equal ones must keep their order.
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
    """Return the weights with so many low bits dropped, by group, that each group's sum stays below 2^50."""
    _, exponent = np.frexp(_sums(weight, group, groups).astype(np.float64))
    drop = np.maximum(exponent - 49, 0).astype(np.int64)
    fitted: I64 = weight >> drop[group] if drop.any() else weight
    return fitted
