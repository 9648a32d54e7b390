"""Which events are missing from what a worker has read: for /metrics and its log. `wattlog audit` knows of all time.

A number that came before the one under it is a gap until that comes too; one that stays is loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from contracts import topics
from contracts.rows import Table

MAX_RUNS = 100_000
"""Runs with gaps that are told apart. Of those beyond, the gaps are left out: there are gaps enough to look."""
REPORT_AFTER_MS = 60_000
"""After this a gap is told: until then its events may be on their way."""
REPORT_MAX = 20
"""Gaps told at once."""

_Run = tuple[int, str, str, int]
"""(log partition, topic, source, epoch)."""


class SequenceGaps:
    """Missing events of producers' runs that were heard since their partitions were assigned."""

    def __init__(self) -> None:
        self._missing: dict[_Run, int] = {}
        self._told: dict[_Run, tuple[int, int]] = {}
        """Since when a run's gap is known, and how many missing events of it were told."""

    def note(self, partition: int, sources: Table) -> None:
        """Rows of `sources` that a partition is about to store."""
        last_seq, received = (np.asarray(sources[name]).astype(np.int64) for name in ("last_seq", "received"))
        missing = last_seq + 1 - received
        for i in np.flatnonzero((missing > 0) | bool(self._missing)).tolist():
            key = partition, str(sources["topic"][i]), str(sources["source"][i]), int(sources["epoch"][i])
            if missing[i] <= 0:
                self._missing.pop(key, None)
            elif key in self._missing or len(self._missing) < MAX_RUNS:
                self._missing[key] = int(missing[i])

    def clear(self) -> None:
        """The partitions were given up."""
        self._missing.clear()
        self._told.clear()

    def lasting(self, now_ms: int) -> list[str]:
        """What to tell of gaps that have lasted, or grown since they were told; each is told once."""
        self._told = {run: told for run, told in self._told.items() if run in self._missing}
        found = []
        for run, missing in self._missing.items():
            since_ms, told = self._told.setdefault(run, (now_ms, 0))
            if missing > told and now_ms - since_ms >= REPORT_AFTER_MS and len(found) < REPORT_MAX:
                self._told[run] = since_ms, missing
                _, topic, source, epoch = run
                found.append(f"{missing} events of {source}, run {epoch}, never came on {topic}")
        return found

    def by_topic(self) -> Iterator[tuple[str, int]]:
        """(topic, missing events) of both joined topics."""
        for topic in topics.JOINED:
            yield topic, sum(count for (_, of, _, _), count in self._missing.items() if of == topic)
