"""What a worker may hold in memory, and what it does when it holds that much.

When a window is closed decides nothing: what comes for it afterwards is a late fact, and restated. So a worker that is
full closes its oldest windows early, and reading waits only until they are stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence

from streams import metrics
from streams.core.cardinality import CardinalityReport
from streams.core.decoding import LogMessage
from streams.core.partition import NO_BOUND, ClosedWindows, Partition
from streams.core.progress import MAX_SOURCES

log = logging.getLogger("wattlog.stream")

FLUSHES = 8
"""A round stores at most this part of what may be held: tables of rows are several times as large as the state."""
LATE_EVERY_MS = 1_000
"""Late facts wait so long for others: each time, all of their windows are read from the warehouse and restated."""
MANY_KEYS = 100_000
"""GPUs or tenants in open windows that are told of: so many are seldom meant."""
TELL_EVERY_MS = 60_000
STEP_BYTES = 4 * 2**20
"""Payload that is taken in at once: between steps, a worker that is full stops reading."""


class MemoryBounds:
    """See the module. `most` is in rows (`max_open_rows`), `states` gives the partitions held."""

    def __init__(self, most: int, states: Callable[[], Collection[Partition]]) -> None:
        self._most, self._states = most, states
        self._left, self._keep, self._in_hand = most, NO_BOUND, 0
        self._late_ms: dict[int, int] = {}
        self._told_ms: dict[str, int] = {}
        self._forgotten = 0

    def rows(self) -> int:
        """Rows held now: those that a round is storing are held until its end."""
        return self._in_hand + sum(state.open_rows for state in self._states())

    def full(self) -> bool:
        """Whether reading should wait: more is held than may be, and storing makes room."""
        rows = self.rows()
        metrics.OPEN_ROWS.set(rows)
        return rows > self._most and any(state.unstored for state in self._states())

    def begin_round(self) -> None:
        """Partitions will be stored, one `advance` each."""
        self._left, self._in_hand = self._most // FLUSHES, 0
        self._keep = self._most // 2 // len(self._states()) if self.full() else NO_BOUND

    @property
    def cut(self) -> bool:
        """The last round stored as much as a round may: there is more."""
        return self._left <= 0

    def advance(self, state: Partition, now_ms: int) -> ClosedWindows | None:
        """`Partition.advance`, within the bounds: of what may be closed, so much that the round's tables stay small; of
        a worker that is full, so much more that every partition keeps its part of half of what may be held."""
        full, held = self._keep != NO_BOUND, state.open_rows
        waited_ms = now_ms - self._late_ms.get(state.log_partition, -LATE_EVERY_MS)
        flush = state.advance(
            now_ms,
            at_most_rows=self._keep,
            close_rows=self._left,
            late=full or waited_ms >= LATE_EVERY_MS or state.late_rows > self._most // FLUSHES,
        )
        if flush is None:
            return None
        self._left -= held - state.open_rows
        self._in_hand += held - state.open_rows
        if flush.late:
            self._late_ms[state.log_partition] = now_ms
        if flush.early:
            metrics.CLOSED_EARLY.inc(flush.early)
            self._tell(
                "full", now_ms, "max_open_rows (%d) is met: windows are closed before their lateness has passed, and "
                "what still comes for them is restated. Most there is: %s. Mend what makes so many, or add workers",
                self._most, state.report_cardinality() or "in the windows just closed",
            )  # fmt: skip
        return flush

    def show(self, now_ms: int) -> None:
        """Gauges; a warning of names that look like ids, and of sources that there is no room to remember."""
        states = self._states()
        forgotten = sum(state.counters().forgotten for state in states)
        metrics.SOURCES_FORGOTTEN.set(forgotten)
        if forgotten > self._forgotten:
            self._tell(
                "forgotten", now_ms, "%d sources were forgotten, because a partition remembers %d a topic: what they "
                "send twice counts twice. Sources that live long, or more partitions, avoid it",
                forgotten, MAX_SOURCES,
            )  # fmt: skip
        self._forgotten = forgotten
        for kind, count in (("gpus", sum(s.gpus for s in states)), ("tenants", sum(s.payers for s in states))):
            metrics.OPEN_KEYS.labels(kind).set(count)
            if count > MANY_KEYS:
                most: CardinalityReport = max(m for s in states if (m := s.report_cardinality()) is not None)
                self._tell(kind, now_ms, "open windows hold %d %s: %s. Is that meant so?", count, kind, most)

    def _tell(self, what: str, now_ms: int, text: str, *values: object) -> None:
        """At most once a minute, for as long as it lasts."""
        if now_ms - self._told_ms.get(what, -TELL_EVERY_MS) >= TELL_EVERY_MS:
            self._told_ms[what] = now_ms
            log.warning(text, *values)


def steps(messages: Sequence[LogMessage]) -> Iterator[Sequence[LogMessage]]:
    """The messages, cut where the payload of a step would exceed STEP_BYTES; one message at least."""
    begin, size = 0, 0
    for at, message in enumerate(messages):
        size += len(message.value or b"")
        if size > STEP_BYTES and at > begin:
            yield messages[begin:at]
            begin, size = at, len(message.value or b"")
    if begin < len(messages):
        yield messages[begin:]
