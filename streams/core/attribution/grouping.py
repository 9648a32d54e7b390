"""Columns grouped and sorted by the text order of their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from contracts.columns import I64
from streams.core.attribution.facts import Facts, Index


@dataclass(frozen=True)
class GroupKeys:
    """Codes as ranks in text order, and groups (window, subject) as integers: sorting by key is sorting by name."""

    subject: I64
    tenant: I64
    product: I64
    groups: I64
    of_energy: Index
    """The group of each row of `Facts.energy`."""
    of_tokens: Index
    """The group of each row of `Facts.tokens`."""

    @classmethod
    def of(cls, facts: Facts) -> Self:
        e, t, subject = facts.energy, facts.tokens, rank(facts.subjects)
        windows, _, window = distinct(np.concatenate([e.window_start, t.window_start]))
        of_subject = subject[np.concatenate([e.subject, t.subject])]
        numbers, _, group = distinct(window * len(subject) + of_subject)
        groups = windows[numbers // len(subject)] * len(subject) + numbers % len(subject)
        n = len(e.window_start)
        return cls(subject, rank(facts.tenants), rank(facts.products), groups, group[:n], group[n:])

    def group(self, window_start: I64, subject: I64) -> Index:
        """Return the group of each (window, subject code)."""
        return np.searchsorted(self.groups, window_start * len(self.subject) + self.subject[subject])

    def work(self, group: Index, tenant: I64, product: I64) -> I64:
        """Return one integer for each (group, tenant code, product code), ordered as their names are."""
        key: I64 = (group * len(self.tenant) + self.tenant[tenant]) * len(self.product) + self.product[product]
        return key


_DENSE = 32
"""Range of numbers, per number, up to which they are told apart by a table instead of by sorting."""


def distinct(numbers: I64) -> tuple[I64, Index, Index]:
    """Return (the distinct numbers, ascending; the index of one occurrence of each; for each number, its rank).

    The same as `np.unique`, but without sorting where the numbers are dense, as keys made of ranks are.
    """
    n = len(numbers)
    low, high = (int(numbers.min()), int(numbers.max())) if n else (0, 0)
    if high - low >= _DENSE * n:
        return np.unique(numbers, return_index=True, return_inverse=True)
    place = numbers - low
    present = np.zeros(high - low + 1, np.bool_)
    present[place] = True
    values = np.flatnonzero(present)
    rank_of = np.empty(len(present), np.intp)
    rank_of[values] = np.arange(len(values))
    inverse = rank_of[place]
    at = np.empty(len(values), np.intp)
    at[inverse] = np.arange(n)
    return values + low, at, inverse


def ordered(columns: Sequence[I64]) -> Index:
    """Return the order that sorts rows by these columns, the first column first; no value is below 0.

    The same as `np.lexsort` where rows differ, but with one number per row where those fit: several times as fast.
    """
    key, width_product = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        width_product *= width
        if width_product >= 2**63:
            return np.lexsort(tuple(reversed(columns)))
        key = key * width + column
    return np.argsort(key)


def rank(names: Sequence[object]) -> I64:
    """Return each code's rank in text order. At least one entry, so that products of lengths stay usable as keys."""
    ranks = np.zeros(max(len(names), 1), np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))  # type: ignore[arg-type]
    return ranks


def expand(first: Index, count: Index) -> tuple[Index, Index]:
    """Return (i, number) for each of the `count[i]` numbers first[i], first[i] + 1, ... of each row i."""
    row = np.repeat(np.arange(len(first), dtype=np.intp), count)
    start = np.cumsum(count) - count
    return row, first[row] + (np.arange(len(row), dtype=np.intp) - start[row])


def look_up(columns: list[I64], ask: Callable[..., tuple[int, ...]], *, width: int) -> I64:
    """Return `ask(*codes)`, which gives `width` integers, of each row: (width, n). Ask once for each distinct row."""
    n = len(columns[0])
    if not n:
        return np.zeros((width, 0), np.int64)
    row = np.zeros(n, np.int64)
    for column in columns:  # One number per distinct row, kept small so that products cannot overflow.
        numbers, _, code = distinct(column)
        _, first, row = distinct(row * len(numbers) + code)
    results = np.array([ask(*(int(column[i]) for column in columns)) for i in first], np.int64).T
    return results.reshape(width, -1)[:, row]
