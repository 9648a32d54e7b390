"""Columns grouped by their names' text order: helpers of the attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from contracts.units import I64
from streams.core.attribution.facts import Facts, Index


@dataclass(frozen=True)
class GroupKeys:
    """Codes as ranks in text order, and groups as single integers, so that sorting by key is sorting by name."""

    subject: I64
    tenant: I64
    model: I64
    groups: I64
    of_energy: Index
    """The group of each row of `Facts.energy`, and of `Facts.tokens`."""
    of_tokens: Index

    @classmethod
    def of(cls, facts: Facts) -> Self:
        e, t, subject = facts.energy, facts.tokens, rank(facts.subjects)
        windows, _, window = distinct(np.concatenate([e.window_start, t.window_start]))
        of_subject = subject[np.concatenate([e.subject, t.subject])]
        found, _, group = distinct(window * len(subject) + of_subject)
        groups = windows[found // len(subject)] * len(subject) + found % len(subject)
        n = len(e.window_start)
        return cls(subject, rank(facts.tenants), rank(facts.models), groups, group[:n], group[n:])

    def group(self, window_start: I64, subject: I64) -> Index:
        return np.searchsorted(self.groups, window_start * len(self.subject) + self.subject[subject])

    def done(self, group: Index, tenant: I64, model: I64) -> I64:
        key: I64 = (group * len(self.tenant) + self.tenant[tenant]) * len(self.model) + self.model[model]
        return key


_DENSE = 32
"""How far numbers may lie apart, for each that is there, to be told apart without sorting."""


def distinct(numbers: I64) -> tuple[I64, Index, Index]:
    """(the numbers that are there, ascending; where one of each stands; which of them each is): `np.unique`, but
    without sorting where the numbers lie close together, as keys made of ranks do."""
    n = len(numbers)
    low, high = (int(numbers.min()), int(numbers.max())) if n else (0, 0)
    if high - low >= _DENSE * n:
        return np.unique(numbers, return_index=True, return_inverse=True)
    place = numbers - low
    there = np.zeros(high - low + 1, np.bool_)
    there[place] = True
    found = np.flatnonzero(there)
    number_of = np.empty(len(there), np.intp)
    number_of[found] = np.arange(len(found))
    which = number_of[place]
    at = np.empty(len(found), np.intp)
    at[which] = np.arange(n)
    return found + low, at, which


def ordered(columns: Sequence[I64]) -> Index:
    """What sorts rows by these columns, the first first, none of them below 0: `np.lexsort` where rows differ, but as
    one number a row where those fit, which sorts several times as fast."""
    key, most = np.zeros(len(columns[0]), np.int64), 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        most *= width
        if most >= 2**63:
            return np.lexsort(tuple(reversed(columns)))
        key = key * width + column
    return np.argsort(key)


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
        numbers, _, code = distinct(column)
        _, first, row = distinct(row * len(numbers) + code)
    answers = np.array([ask(*(int(column[i]) for column in columns)) for i in first], np.int64).T
    return answers.reshape(width, -1)[:, row]
