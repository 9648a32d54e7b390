"""Batches of rows by workload, each small enough for a message. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from producers.api import WorkloadBatch
from producers.common.chunks import chunks
from producers.runai.windows import ReadUnit
from producers.runtime.batching import UsageRow, usage_batch

MAX_BATCH_BYTES, ROW_BYTES = 500_000, 100
"""Bytes of one event, half of what brokers accept by default, and bytes of a row beside its texts, at most."""
MAX_BATCH_ROWS = 65_536


def batches(unit_rows: Iterable[tuple[ReadUnit, UsageRow]]) -> Iterator[WorkloadBatch]:
    """Yield rows as batches by workload, in an order that is always the same."""
    ordered = sorted(unit_rows, key=lambda pair: (pair[0].cluster, pair[0].workload, pair[1].t1_ms, pair[1].event_id))
    for (cluster, workload), group in groupby(ordered, key=lambda pair: (pair[0].cluster, pair[0].workload)):
        rows = (row for _, row in group)
        for part in chunks(rows, _row_bytes, max_rows=MAX_BATCH_ROWS, max_bytes=MAX_BATCH_BYTES):
            yield WorkloadBatch(cluster, workload, usage_batch(part, max(row.t1_ms for row in part)))


def _row_bytes(row: UsageRow) -> int:
    texts = (*row[:3], *row[5:11], *row.dimensions, *row.dimensions.values())
    return ROW_BYTES + sum(len(text.encode()) for text in texts)
