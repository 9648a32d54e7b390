"""Spread amounts over time windows, in exact integers: the pieces of an amount sum to it.

It works on columns and never multiplies two large numbers in int64: see `_scaled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from contracts.columns import I64
from streams.core.equal_runs import run_ends


def _scaled(amount: I64, part: I64, total: I64) -> I64:
    """Return floor(amount * part / total), exactly, for 0 <= part <= total, amount < 2^62 and total < 2^31.

    amount = q * total + r, hence amount * part / total = q * part + r * part / total, where both terms fit in int64.
    Where the product itself fits, as it does for seconds and kilojoules, one division is enough.
    """
    if int(amount.max(initial=0)) * int(part.max(initial=0)) < 2**63:
        return amount * part // total
    q, r = np.divmod(amount, total)
    return q * part + (r * part) // total


def window_pieces(t0_ms: I64, t1_ms: I64, window_ms: int) -> tuple[npt.NDArray[np.intp], I64]:
    """Return (row, window number) for each window that a half-open `[t0, t1)` touches, row by row in time order.

    An empty span (t0 == t1) belongs to the one window that contains its instant.
    """
    first = t0_ms // window_ms
    count = np.maximum(t1_ms - 1, t0_ms) // window_ms - first + 1
    row = np.repeat(np.arange(len(first), dtype=np.intp), count)
    start_of_row = np.cumsum(count) - count
    return row, first[row] + (np.arange(len(row), dtype=np.int64) - start_of_row[row])


@dataclass(frozen=True)
class SpanCuts:
    """Positions at which windows cut spans `[p0, p1)`, one per piece of `window_pieces`.

    For each piece: its row, the part of the row's span before the piece's window, and the span's length, in
    milliseconds. They are the same for every amount that is spread over the span.
    """

    row: npt.NDArray[np.intp]
    before: I64
    length: I64
    last: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, p0_ms: I64, p1_ms: I64, row: npt.NDArray[np.intp], window: I64, window_ms: int) -> Self:
        """Return the cuts of spans that are within their rows; an empty span is a step at p0."""
        length = np.maximum(p1_ms - p0_ms, 1)[row]
        return cls(row, np.clip(window * window_ms - p0_ms[row], 0, length), length, run_ends(row))

    def spread(self, amount: I64) -> I64:
        """Return each row's `amount`, spread evenly over its span, per piece.

        A piece is the difference of two floors of the running total, so the pieces of a row sum to its amount exactly,
        whatever the windows.
        """
        if not amount.any():
            return np.zeros(len(self.row), np.int64)
        total = amount[self.row]
        before = _scaled(total, self.before, self.length)
        piece = np.empty_like(before)
        piece[:-1] = before[1:]
        piece[self.last] = total[self.last]
        piece -= before
        return piece


def spread_intervals(
    amounts: Sequence[I64], t0_ms: I64, t1_ms: I64, window_ms: int
) -> tuple[npt.NDArray[np.intp] | None, I64, list[I64]]:
    """Return (row, window number, each amount) of the pieces of half-open `[t0, t1)`s, in no particular order.

    Most intervals are within one window, and only the others are cut. `row` is None if none of them is cut.
    """
    first = t0_ms // window_ms
    uncut = (t1_ms - 1) // window_ms <= first
    cut = np.flatnonzero(~uncut)
    if not len(cut):
        return None, first, list(amounts)
    t0, t1 = t0_ms[cut], t1_ms[cut]
    row, window = window_pieces(t0, t1, window_ms)
    kept, cuts = np.flatnonzero(uncut), SpanCuts.of(t0, t1, row, window, window_ms)
    parts = [np.concatenate([a[kept], cuts.spread(a[cut])]) for a in amounts]
    return np.concatenate([kept, cut[row]]), np.concatenate([first[kept], window]), parts
