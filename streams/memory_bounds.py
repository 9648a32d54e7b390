"""Bounds on a worker's memory: how much it may hold, and what it does when it holds that much.

The result does not depend on when a window is closed: what arrives later is a late fact, and restated. So a full worker
closes its oldest windows early, and reading waits only until they are stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence

from streams import metrics
from streams.core.cardinality import CardinalityReport, report_cardinality
from streams.core.decoding import LogMessage
from streams.core.partition import NO_BOUND, ClosedWindows, Partition
from streams.core.progress import MAX_SOURCES

log = logging.getLogger("wattlog.stream")

FLUSHES = 8
"""A flush stores at most this fraction of `max_open_rows`: tables of rows are several times as large as the state."""
LATE_EVERY_MS = 1_000
"""How long late facts wait for others: each restatement reads all facts of their windows from the warehouse."""
MANY_KEYS = 100_000
"""GPUs or tenants in open windows above which a warning is logged: so many are seldom intended."""
WARN_EVERY_MS = 60_000
STEP_BYTES = 4 * 2**20
"""Payload that is ingested at once: a full worker stops between steps."""


class MemoryBounds:
    """Bounds of the owned partitions together. `max_rows` is the setting `max_open_rows`."""

    def __init__(self, max_rows: int, partitions: Callable[[], Collection[Partition]]) -> None:
        self._max_rows, self._partitions = max_rows, partitions
        self._left, self._keep, self._in_flush = max_rows, NO_BOUND, 0
        self._late_ms: dict[int, int] = {}
        self._warned_ms: dict[str, int] = {}
        self._forgotten = 0

    def rows(self) -> int:
        """Return the rows in memory, including those that a flush is storing."""
        return self._in_flush + sum(partition.open_rows for partition in self._partitions())

    def full(self) -> bool:
        """Return True if reading should wait: the bound is exceeded, and storing makes room."""
        rows = self.rows()
        metrics.OPEN_ROWS.set(rows)
        return rows > self._max_rows and any(partition.has_unstored for partition in self._partitions())

    def begin_flush(self) -> None:
        """Reset the budget of a flush, which calls `advance` once per partition."""
        self._left, self._in_flush = self._max_rows // FLUSHES, 0
        self._keep = self._max_rows // 2 // len(self._partitions()) if self.full() else NO_BOUND

    @property
    def exhausted(self) -> bool:
        """True if the last flush stored as much as one may: there is more to store."""
        return self._left <= 0

    def advance(self, partition: Partition, now_ms: int) -> ClosedWindows | None:
        """Call `Partition.advance` within the bounds.

        It closes no more than is left of the flush's budget. In a full worker it closes windows early, until the
        partition keeps no more than its part of half the bound.
        """
        full, rows_before = self._keep != NO_BOUND, partition.open_rows
        waited_ms = now_ms - self._late_ms.get(partition.log_partition, -LATE_EVERY_MS)
        closed = partition.advance(
            now_ms,
            at_most_rows=self._keep,
            close_rows=self._left,
            late=full or waited_ms >= LATE_EVERY_MS or partition.late_facts.rows > self._max_rows // FLUSHES,
        )
        if closed is None:
            return None
        self._left -= rows_before - partition.open_rows
        self._in_flush += rows_before - partition.open_rows
        if closed.late_tables:
            self._late_ms[partition.log_partition] = now_ms
        if closed.closed_early:
            metrics.CLOSED_EARLY.inc(closed.closed_early)
            self._warn(
                "full", now_ms, "max_open_rows (%d) is met: windows are closed before their lateness has passed, and "
                "what still arrives for them is restated. The largest group: %s. Fix the producer of so many names, or "
                "add workers", self._max_rows, _report(partition) or "in the windows just closed",
            )  # fmt: skip
        return closed

    def export(self, now_ms: int) -> None:
        """Set gauges; warn about names that look like ids, and about sources that were forgotten."""
        partitions = self._partitions()
        forgotten = sum(partition.progress.forgotten for partition in partitions)
        metrics.SOURCES_FORGOTTEN.set(forgotten)
        if forgotten > self._forgotten:
            self._warn(
                "forgotten", now_ms, "%d sources were forgotten, because a partition remembers %d a topic: what they "
                "send twice counts twice. Sources that live long, or more partitions, avoid it",
                forgotten, MAX_SOURCES,
            )  # fmt: skip
        self._forgotten = forgotten
        gpus, tenants = (sum(len(p.windows.gpus) for p in partitions), sum(len(p.windows.payers) for p in partitions))
        for kind, count in (("gpus", gpus), ("tenants", tenants)):
            metrics.OPEN_KEYS.labels(kind).set(count)
            if count > MANY_KEYS:
                report = max(r for p in partitions if (r := _report(p)) is not None)
                self._warn(kind, now_ms, "open windows hold %d %s: %s. Is that intended?", count, kind, report)

    def _warn(self, kind: str, now_ms: int, text: str, *values: object) -> None:
        """Log a warning, of each kind once per WARN_EVERY_MS at most."""
        if now_ms - self._warned_ms.get(kind, -WARN_EVERY_MS) >= WARN_EVERY_MS:
            self._warned_ms[kind] = now_ms
            log.warning(text, *values)


def _report(partition: Partition) -> CardinalityReport | None:
    return report_cardinality(partition.windows.gpus, partition.windows.payers)


def steps(messages: Sequence[LogMessage]) -> Iterator[Sequence[LogMessage]]:
    """Yield the messages in steps of at most STEP_BYTES of payload, or of one message."""
    begin, size = 0, 0
    for at, message in enumerate(messages):
        size += len(message.value or b"")
        if size > STEP_BYTES and at > begin:
            yield messages[begin:at]
            begin, size = at, len(message.value or b"")
    if begin < len(messages):
        yield messages[begin:]
