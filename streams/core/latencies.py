"""Latencies of requests: the buckets that each falls into, and their counts in open windows."""

from __future__ import annotations

import numpy as np

from contracts.columns import I64
from contracts.histogram import LATENCIES, MAX_BUCKETS, HistogramCounts, buckets_of
from contracts.joined_batches import TokenColumns
from streams.core.attribution.facts import AMOUNTS, COMPLETION, Index

_WIDTH = len(LATENCIES) * MAX_BUCKETS
_PENDING = 65_536
"""Counts that wait to be sorted: half a megabyte for a window, so that most are sorted once."""


def latencies_of(c: TokenColumns, is_ok: Index, window_ms: int) -> tuple[Index, I64, I64]:
    """Return (row, window, code) of each known latency of the requests `is_ok`; codes as in `HistogramCounts`.

    A request counts in the window in which it ended, as its number does. Rows that stand for several requests have no
    latency: the growth of a server's counters does not say how long each of them took.
    """
    start, first, end = c.begin_ms[is_ok], c.first_ms[is_ok], c.end_ms[is_ok]
    further = np.maximum(c.tokens[COMPLETION][is_ok] - 1, 1)
    queue_ms = np.full(len(is_ok), -1) if c.queue_ms is None else c.queue_ms[is_ok]
    known = [first > 0, (first > 0) & (c.tokens[COMPLETION][is_ok] > 1), np.ones(len(is_ok), np.bool_), queue_ms >= 0]
    times_us = [(first - start) * 1000, (end - first) * 1000 // further, (end - start) * 1000, queue_ms * 1000]
    last = np.maximum(end - 1, start) // window_ms
    at = [np.flatnonzero(k) for k in known]
    return (
        np.concatenate([is_ok[i] for i in at]),
        np.concatenate([last[i] for i in at]),
        np.concatenate(
            [buckets_of(time[i]) + n * MAX_BUCKETS for n, (time, i) in enumerate(zip(times_us, at, strict=True))]
        ),
    )


class WindowLatencies:
    """Counts of one window by entity and code, as sorted keys with their counts."""

    def __init__(self) -> None:
        self._keys = self._counts = np.zeros(0, np.int64)
        self._pending: list[I64] = []
        self._waiting = 0

    @property
    def rows(self) -> int:
        """Memory use, in rows of an accumulator, which have a number for each of `AMOUNTS`."""
        return (2 * len(self._keys) + self._waiting) // len(AMOUNTS)

    def add(self, entity: Index, code: I64) -> None:
        """Count each of these once more."""
        keys = entity * _WIDTH + code
        # Keys of half the width are sorted in half the time.
        self._pending.append(keys.astype(np.int32) if keys.max(initial=0) < 2**31 else keys)
        self._waiting += len(entity)
        if self._waiting > max(_PENDING, len(self._keys)):
            self._merge()

    def _merge(self) -> None:
        if not self._pending:
            return
        new, count = np.unique(np.concatenate(self._pending), return_counts=True)
        self._pending, self._waiting = [], 0
        if not len(self._keys):
            self._keys, self._counts = new.astype(np.int64), count
            return
        keys, inverse = np.unique(np.concatenate([self._keys, new]), return_inverse=True)
        counts = np.zeros(len(keys), np.int64)
        np.add.at(counts, inverse, np.concatenate([self._counts, count]))
        self._keys, self._counts = keys, counts

    def counts(self) -> HistogramCounts:
        """Return the counts, by entity and code; `row` is the entity."""
        self._merge()
        return HistogramCounts((self._keys // _WIDTH).astype(np.intp), self._keys % _WIDTH, self._counts)

    def rename(self, new: Index) -> None:
        """Give each entity its new number."""
        self._merge()
        keys = new[self._keys // _WIDTH] * _WIDTH + self._keys % _WIDTH
        order = np.argsort(keys)
        self._keys, self._counts = keys[order], self._counts[order]
