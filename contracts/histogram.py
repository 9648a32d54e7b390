"""Latency histograms: how many requests took how long, as counts by bucket. Histograms of equal buckets add up exactly.

A bucket is an eighth of an octave of microseconds: bucket `8 o + s` has the times from `2^o (8 + s) / 8` up to, and
without, `2^o (9 + s) / 8`. So a time within it is known to one part in eight. Buckets are found by integer arithmetic
alone, so that every machine finds the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.columns import I64
from contracts.dictionary_column import CompactColumn

LATENCIES = ("time_to_first_token", "time_per_output_token", "request_duration", "queue_duration")
"""Columns of histograms: the time from a request's start to its first token, the mean time of each further token, the
time from its start to its end, and the part of it that it waited for the model. In microseconds."""
MAX_BUCKETS = 512
"""Buckets are below this: 2^63 microseconds would be bucket 504."""
_PER_OCTAVE = 8
_ARROW = pa.map_(pa.uint16(), pa.uint64())

Histogram = Mapping[int, int]
"""Number of requests by bucket."""


def buckets_of(time_us: I64) -> I64:
    """Return the bucket of each time in microseconds; times below 1 are in bucket 0. Times are below 2^53."""
    time_us = np.maximum(time_us, 1)
    octave = np.frexp(time_us.astype(np.float64))[1].astype(np.int64) - 1
    eighths: I64 = np.where(octave >= 3, time_us >> np.maximum(octave - 3, 0), time_us << np.maximum(3 - octave, 0))
    return octave * _PER_OCTAVE + eighths - _PER_OCTAVE


def bounds_us(bucket: int) -> tuple[float, float]:
    """Return the least time of a bucket and the least time above it, in microseconds."""
    octave, eighth = divmod(bucket, _PER_OCTAVE)
    return 2.0**octave * (_PER_OCTAVE + eighth) / _PER_OCTAVE, 2.0**octave * (_PER_OCTAVE + eighth + 1) / _PER_OCTAVE


def quantile_us(histogram: Histogram, per_mille: int) -> float | None:
    """Return the middle of the bucket of the request at this rank, in thousandths of all; None without requests.

    The rank is the nearest one: of n requests, request number ceil(n x per_mille / 1000), the fastest first.
    """
    total = sum(histogram.values())
    if not total:
        return None
    left = max(-(-total * per_mille // 1000), 1)
    for bucket in sorted(histogram):
        left -= histogram[bucket]
        if left <= 0:
            return sum(bounds_us(bucket)) / 2
    raise AssertionError("ranks are at most the total")


class HistogramCounts(NamedTuple):
    """Counts of requests by row of some table, histogram and bucket. The three columns have one length."""

    row: npt.NDArray[np.intp]
    code: I64
    """Number of the histogram in `LATENCIES` x MAX_BUCKETS + bucket."""
    number: I64

    @classmethod
    def none(cls) -> Self:
        """Return counts of no request."""
        return cls(np.zeros(0, np.intp), np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def summed(cls, row: npt.NDArray[np.intp], code: I64, number: I64) -> Self:
        """Return counts with equal rows and codes added up, sorted by row and code, without zeros."""
        width = len(LATENCIES) * MAX_BUCKETS
        keys, inverse = np.unique(row * width + code, return_inverse=True)
        sums = np.zeros(len(keys), np.int64)
        np.add.at(sums, inverse, number)
        kept = sums != 0
        return cls((keys // width)[kept], (keys % width)[kept], sums[kept])

    @classmethod
    def of(cls, columns: Sequence[HistogramColumn]) -> Self:
        """Return the counts of columns, in the order of `LATENCIES`."""
        sizes = [np.diff(column.offsets) for column in columns]
        return cls(
            np.concatenate([np.repeat(np.arange(len(size), dtype=np.intp), size) for size in sizes]),
            np.concatenate([c.buckets.astype(np.int64) + i * MAX_BUCKETS for i, c in enumerate(columns)]),
            np.concatenate([c.counts for c in columns]),
        )

    def columns(self, rows: int) -> dict[str, HistogramColumn]:
        """Return the histograms of a table of so many rows, by the names of `LATENCIES`. Rows may be in any order."""
        columns = {}
        for i, name in enumerate(LATENCIES):
            at = np.flatnonzero(self.code // MAX_BUCKETS == i)
            at = at[np.lexsort((self.code[at], self.row[at]))]
            size = np.bincount(self.row[at], minlength=rows)
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
            columns[name] = HistogramColumn(offsets, (self.code[at] % MAX_BUCKETS).astype(np.uint16), self.number[at])
        return columns


class HistogramColumn(CompactColumn[Histogram]):
    """Column of histograms: row i has the buckets and counts from `offsets[i]` to `offsets[i + 1]`."""

    __slots__ = ("buckets", "counts", "offsets")

    def __init__(self, offsets: I64, buckets: npt.NDArray[np.uint16], counts: I64) -> None:
        self.offsets, self.buckets, self.counts = offsets, buckets, counts

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Return so many histograms without requests."""
        return cls(np.zeros(rows + 1, np.int64), np.zeros(0, np.uint16), np.zeros(0, np.int64))

    @classmethod
    def of(cls, histograms: Sequence[Histogram]) -> Self:
        """Return a column of these histograms."""
        counts = [sorted(histogram.items()) for histogram in histograms]
        entries = [entry for of_row in counts for entry in of_row]
        return cls(
            np.concatenate([np.zeros(1, np.int64), np.cumsum([len(of_row) for of_row in counts], dtype=np.int64)]),
            np.array([bucket for bucket, _ in entries], np.uint16),
            np.array([number for _, number in entries], np.int64),
        )

    @classmethod
    def of_arrow(cls, column: pa.ChunkedArray) -> Self:
        """Return an Arrow column of maps."""
        maps = column.combine_chunks()
        maps = maps.chunk(0) if isinstance(maps, pa.ChunkedArray) else maps
        offsets = maps.offsets.to_numpy().astype(np.int64)
        first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        return cls(
            offsets - first if len(offsets) else np.zeros(1, np.int64),
            maps.keys.to_numpy()[first:last].astype(np.uint16),
            maps.items.to_numpy()[first:last].astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Histogram]:
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, at: int) -> Histogram: ...
    @overload
    def __getitem__(self, at: slice) -> HistogramColumn: ...
    def __getitem__(self, at: int | slice) -> Histogram | HistogramColumn:
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        rows = slice(int(self.offsets[at]), int(self.offsets[at + 1]))
        return dict(zip(self.buckets[rows].tolist(), self.counts[rows].tolist(), strict=True))

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        """Return the Arrow array: `pyarrow.array` calls this."""
        return pa.MapArray.from_arrays(
            pa.array(self.offsets.astype(np.int32)),
            pa.array(self.buckets, pa.uint16()), pa.array(self.counts.astype(np.uint64), pa.uint64()),
        ).cast(type or _ARROW)  # fmt: skip

    def take(self, at: npt.NDArray[Any]) -> HistogramColumn:
        size = np.diff(self.offsets)[at]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(size)])
        entry = np.repeat(self.offsets[:-1][at] - offsets[:-1], size) + np.arange(offsets[-1])
        return HistogramColumn(offsets, self.buckets[entry], self.counts[entry])

    @classmethod
    def concat(cls, columns: Sequence[HistogramColumn]) -> HistogramColumn:
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(c.offsets) for c in columns)])
        return cls(
            np.cumsum(sizes),
            np.concatenate([np.zeros(0, np.uint16), *(c.buckets for c in columns)]),
            np.concatenate([np.zeros(0, np.int64), *(c.counts for c in columns)]),
        )
