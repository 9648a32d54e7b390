"""Rows as batches of their workloads, each small enough for a message. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from producers.runai.windows import ReadUnit
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.poll_loop import Made

MAX_BATCH_BYTES, ROW_BYTES = 500_000, 100
"""Of one event: half of what brokers take unless told otherwise. What a row takes beside its texts, amply."""


def batches(found: Iterable[tuple[ReadUnit, UsageRow]]) -> Iterator[Made]:
    """Rows as batches of their workloads, in an order that is always the same."""
    listed = sorted(found, key=lambda pair: (pair[0].cluster, pair[0].workload, pair[1].t1_ms, pair[1].event_id))
    for (cluster, workload), group in groupby(listed, key=lambda pair: (pair[0].cluster, pair[0].workload)):
        for rows in _parts(row for _, row in group):
            yield Made(cluster, workload, usage_batch(rows, max(r.t1_ms for r in rows)))


def _parts(rows: Iterable[UsageRow]) -> Iterator[list[UsageRow]]:
    """Rows as lists that fit into a message each."""
    part: list[UsageRow] = []
    size = 0
    for row in rows:
        texts = (*row[:3], *row[5:11], *row.dimensions, *row.dimensions.values())
        row_bytes = ROW_BYTES + sum(len(text.encode()) for text in texts)
        if part and size + row_bytes > MAX_BATCH_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += row_bytes
    if part:
        yield part
