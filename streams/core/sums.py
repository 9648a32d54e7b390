"""Sums per window and entity, as dense arrays: what open windows are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from contracts.units import I64
from streams.core.facts import Index
from streams.core.spread import starts


def by_window(window: I64) -> Iterator[tuple[int, Index]]:
    """(window number, where it stands in the column), for each number in it, ascending."""
    if not len(window):
        return
    order = np.argsort(window, kind="stable")
    ordered = window[order]
    first = np.flatnonzero(starts(ordered))
    yield from zip(ordered[first].tolist(), np.split(order, first[1:]), strict=True)


class Sums:
    """Per window, per entity: `width` integers, added up (those in `greatest`: the maximum is kept)."""

    def __init__(self, width: int, greatest: tuple[int, ...] = ()) -> None:
        self._width = width
        self._greatest = greatest
        self._ids: dict[tuple[str, ...], int] = {}
        self.keys: list[tuple[str, ...]] = []
        self.windows: dict[int, I64] = {}
        self.dirty: set[int] = set()
        """Windows held that were added to since somebody last cleared this."""

    def ids(self, keys: Iterable[tuple[str, ...]]) -> Index:
        """Entities' numbers, new ones interned. Stable until `compact`."""
        for key in (keys := list(keys)):
            if key not in self._ids:
                self._ids[key] = len(self.keys)
                self.keys.append(key)
        return np.array([self._ids[key] for key in keys], np.intp)

    def add(self, window: I64, entity: Index, values: I64) -> None:
        """Add columns `values` (width, n) to their windows and entities."""
        for number, at in by_window(window):
            sums = self._window(number)
            self.dirty.add(number)
            for i, column in enumerate(values):
                put = np.maximum.at if i in self._greatest else np.add.at
                put(sums[i], entity[at], column[at])

    def _window(self, number: int) -> I64:
        sums = self.windows.get(number)
        if sums is None or sums.shape[1] < len(self.keys):
            grown: I64 = np.zeros((self._width, max(64, 1 << (len(self.keys) - 1).bit_length())), np.int64)
            if sums is not None:
                grown[:, : sums.shape[1]] = sums
            sums = self.windows[number] = grown
        return sums

    def take(self, numbers: Sequence[int], *, remove: bool) -> tuple[I64, Index, I64]:
        """(window number, entity, values) of all that is in these windows."""
        found = []
        for number in numbers:
            sums = self.windows.pop(number, None) if remove else self.windows.get(number)
            if remove:
                self.dirty.discard(number)
            if sums is not None:
                entity = np.flatnonzero(sums.any(axis=0))
                found.append((np.full(len(entity), number, np.int64), entity, sums[:, entity]))
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.intp), np.zeros((self._width, 0), np.int64)
        windows, entities, values = zip(*found, strict=True)
        return np.concatenate(windows), np.concatenate(entities), np.concatenate(values, axis=1)

    @property
    def rows(self) -> int:
        """Memory held, in rows of `width` integers."""
        return sum(sums.shape[1] for sums in self.windows.values())

    def compact(self) -> None:
        """Forget entities that no open window holds; ids given out before are void."""
        live = np.zeros(len(self.keys), np.bool_)
        for sums in self.windows.values():
            n = min(len(live), sums.shape[1])
            live[:n] |= sums[:, :n].any(axis=0)
        keep = np.flatnonzero(live)
        self.keys = [self.keys[i] for i in keep]
        self._ids = {key: i for i, key in enumerate(self.keys)}
        for number, sums in list(self.windows.items()):
            padded = np.zeros((self._width, len(live)), np.int64)
            padded[:, : min(sums.shape[1], len(live))] = sums[:, : len(live)]
            del self.windows[number]
            self._window(number)[:, : len(keep)] = padded[:, keep]
