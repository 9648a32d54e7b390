"""Accumulators: sums of integers per window and entity, as dense arrays. Open windows are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from contracts.columns import I64
from contracts.dictionary_column import DictionaryColumn
from streams.core.attribution.facts import Index
from streams.core.equal_runs import run_starts

_FEW = 8
"""Windows up to which a scan per window is cheaper than sorting."""


def by_window(window: I64) -> Iterator[tuple[int, Index | slice]]:
    """Yield (window number, its positions in the column) for each number in it, ascending."""
    if not len(window):
        return
    low, high = int(window.min()), int(window.max())
    if low == high:
        yield low, slice(None)
    elif high - low < _FEW:
        for number in range(low, high + 1):
            at = np.flatnonzero(window == number)
            if len(at):
                yield number, at
    else:
        # Small numbers are sorted by their digits (radix sort), without comparisons.
        order = np.argsort((window - low).astype(np.uint16) if high - low < 2**16 else window, kind="stable")
        ordered = window[order]
        first = np.flatnonzero(run_starts(ordered))
        yield from zip(ordered[first].tolist(), np.split(order, first[1:]), strict=True)


EntityKey = tuple[Any, ...]


class WindowAccumulators:
    """Per window and entity, `width` integers that are added up; for those in `greatest` the maximum is kept."""

    def __init__(self, width: int, greatest: tuple[int, ...] = ()) -> None:
        self._width = width
        self._greatest = greatest
        self._ids: dict[EntityKey, int] = {}
        self.keys: list[EntityKey] = []
        self._parts: dict[Callable[[EntityKey], Any], tuple[dict[Any, int], I64]] = {}
        self.windows: dict[int, I64] = {}
        self.rows = 0
        """Memory use, in rows of `width` integers. Keys are included: the newest window has a column for each."""
        self.dirty: set[int] = set()
        """Windows that were added to since the owner last cleared this set."""

    def ids(self, keys: Iterable[EntityKey]) -> Index:
        """Return the entities' ids, interning new ones. They are stable until `compact`."""
        keys, get = list(keys), self._ids.get
        ids = [get(key, -1) for key in keys]
        if -1 in ids:
            for key in keys:
                if key not in self._ids:
                    self._ids[key] = len(self.keys)
                    self.keys.append(key)
            ids = [self._ids[key] for key in keys]
        return np.array(ids, np.intp)

    def part(self, of: Callable[[EntityKey], Any]) -> DictionaryColumn[Any]:
        """Return one part of every entity's key, by entity id. `of` must be the same function object at every call."""
        names, column = self._parts.get(of, ({}, np.zeros(0, np.int64)))
        if len(column) < len(self.keys):
            new = [names.setdefault(of(key), len(names)) for key in self.keys[len(column) :]]
            column = np.concatenate([column, np.array(new, np.int64)])
            self._parts[of] = names, column
        return DictionaryColumn(list(names), column)

    def add(self, window: I64, entity: Index, values: Sequence[I64]) -> None:
        """Add the columns `values` (`width` of them) to their windows and entities."""
        columns = [(i, column) for i, column in enumerate(values) if column.any()]
        for number, at in by_window(window):
            sums = self._window(number)
            self.dirty.add(number)
            entity_here = entity[at]
            for i, column in columns:
                put = np.maximum.at if i in self._greatest else np.add.at
                put(sums[i], entity_here, column[at])

    def _window(self, number: int) -> I64:
        sums = self.windows.get(number)
        if sums is None or sums.shape[1] < len(self.keys):
            grown: I64 = np.zeros((self._width, max(64, 1 << (len(self.keys) - 1).bit_length())), np.int64)
            self.rows += grown.shape[1]
            if sums is not None:
                self.rows -= sums.shape[1]
                grown[:, : sums.shape[1]] = sums
            sums = self.windows[number] = grown
        return sums

    def take(self, numbers: Sequence[int], *, remove: bool) -> tuple[I64, Index, I64]:
        """Return (window number, entity, values) of everything in these windows."""
        parts = []
        for number in numbers:
            sums = self.windows.pop(number, None) if remove else self.windows.get(number)
            if remove:
                self.dirty.discard(number)
                self.rows -= 0 if sums is None else sums.shape[1]
            if sums is not None:
                entity = np.flatnonzero(sums.any(axis=0))
                parts.append((np.full(len(entity), number, np.int64), entity, sums.take(entity, axis=1)))
        if not parts:
            return np.zeros(0, np.int64), np.zeros(0, np.intp), np.zeros((self._width, 0), np.int64)
        windows, entities, values = zip(*parts, strict=True)
        return np.concatenate(windows), np.concatenate(entities), np.concatenate(values, axis=1)

    def compact(self) -> Index:
        """Forget entities that no open window has. Return the new id by old id (-1: forgotten); old ids are void."""
        live = np.zeros(len(self.keys), np.bool_)
        for sums in self.windows.values():
            n = min(len(live), sums.shape[1])
            live[:n] |= sums[:, :n].any(axis=0)
        keep = np.flatnonzero(live)
        self.keys = [self.keys[i] for i in keep.tolist()]
        self._ids = {key: i for i, key in enumerate(self.keys)}
        for of, (names, column) in self._parts.items():
            left = DictionaryColumn(list(names), column).take(keep[: np.searchsorted(keep, len(column))])
            self._parts[of] = {name: i for i, name in enumerate(left.names)}, left.codes
        for number, sums in list(self.windows.items()):
            padded = np.zeros((self._width, len(live)), np.int64)
            padded[:, : min(sums.shape[1], len(live))] = sums[:, : len(live)]
            self.rows -= self.windows.pop(number).shape[1]
            self._window(number)[:, : len(keep)] = padded[:, keep]
        return np.where(live, np.cumsum(live) - 1, -1)
