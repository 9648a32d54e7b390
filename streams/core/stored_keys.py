"""Keys of a partition's rows in the warehouse, so that rows which a window no longer has are deleted there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from contracts.dictionary_column import DictionaryColumn
from contracts.rows import KEYS, Column, Table, concat, keys, length, tombstones

RowKey = tuple[Any, ...]


class StoredKeys:
    """By table and window, keys of rows stored before the window was final, by this worker or a previous owner."""

    def __init__(self, window_ms: int, stored: Mapping[str, Iterable[RowKey]]) -> None:
        self._window_ms = window_ms
        self._keys: dict[str, dict[int, set[RowKey]]] = {}
        for name, some in stored.items():
            self.add(name, some)

    def add(self, name: str, stored: Iterable[RowKey]) -> None:
        """Note that rows with these keys are stored, or about to be."""
        at = KEYS[name].index("window_start")
        by_window = self._keys.setdefault(name, {})
        for key in stored:
            by_window.setdefault(key[at] // self._window_ms, set()).add(key)

    @property
    def rows(self) -> int:
        """Memory use, in rows."""
        return sum(len(some) for by_window in self._keys.values() for some in by_window.values())

    def replace(self, name: str, table: Table, numbers: Iterable[int], **provenance: int | str) -> Table:
        """Return the table, which is all that these windows hold, with a `deleted` row for each stored key it lacks."""
        by_window = self._keys.get(name, {})
        before: set[RowKey] = set().union(*(by_window.pop(n, set()) for n in numbers))
        gone = sorted(before - set(keys(name, table))) if before else []
        if not gone:
            return table
        return concat(name, [table, tombstones(name, gone, **provenance, window_ms=self._window_ms)])

    def up_to(self, name: str, number: int) -> list[int]:
        """Return the windows up to this number that have stored keys.

        A window that a previous owner stored in part may hold nothing now, so it must be looked up here.
        """
        return [n for n in self._keys.get(name, {}) if n <= number]


def touched_hours(ledger: Table, hour_ms: int = 3_600_000) -> tuple[list[int], list[str], list[str]]:
    """Return (hours in epoch ms, clusters, workloads) of ledger rows."""
    if not length(ledger):
        return [], [], []
    starts = np.asarray(ledger["window_start"], np.int64)
    hours: list[int] = (np.unique(starts // hour_ms) * hour_ms).tolist()
    return hours, _names(ledger["cluster"]), _names(ledger["workload"])


def _names(column: Column) -> list[str]:
    coded = DictionaryColumn.of(column)  # type: ignore[arg-type]
    return sorted(set(coded.take(np.arange(len(coded))).names))
