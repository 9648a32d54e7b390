"""Columns grouped by their names' text order: helpers of the attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.units import I64
from streams.core.facts import Index


@dataclass(frozen=True)
class Keys:
    """Codes as ranks in text order, and groups as single integers, so that sorting by key is sorting by name."""

    subject: I64
    tenant: I64
    model: I64
    groups: I64

    def group(self, window_start: I64, subject: I64) -> Index:
        return np.searchsorted(self.groups, window_start * len(self.subject) + self.subject[subject])

    def done(self, group: Index, tenant: I64, model: I64) -> I64:
        key: I64 = (group * len(self.tenant) + self.tenant[tenant]) * len(self.model) + self.model[model]
        return key


def rank(names: Sequence[object]) -> I64:
    """Code -> rank in text order. At least one entry, so that products of lengths stay usable as keys."""
    ranks = np.zeros(max(len(names), 1), np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))  # type: ignore[arg-type]
    return ranks


def expand(first: Index, count: Index) -> tuple[Index, Index]:
    """Row i stands for first[i], first[i]+1, ... count[i] of them: (i repeated, those numbers)."""
    row = np.repeat(np.arange(len(first), dtype=np.intp), count)
    start = np.cumsum(count) - count
    return row, first[row] + (np.arange(len(row), dtype=np.intp) - start[row])


def look_up(columns: list[I64], ask: Callable[..., tuple[int, ...]], width: int) -> I64:
    """`ask(*codes)` for each distinct row of `columns`, spread back over all rows: (width, n)."""
    n = len(columns[0])
    if not n:
        return np.zeros((width, 0), np.int64)
    row = np.zeros(n, np.int64)
    for column in columns:  # One number a distinct row, kept small so that products cannot overflow.
        _, code = np.unique(column, return_inverse=True)
        _, row = np.unique(row * (int(code.max()) + 1) + code, return_inverse=True)
    first = np.zeros(int(row.max()) + 1, np.intp)
    first[row] = np.arange(n)
    answers = np.array([ask(*(int(column[i]) for column in columns)) for i in first], np.int64).T
    return answers.reshape(width, -1)[:, row]
