"""Sequence gaps: events that producers numbered and this worker has not read, for /metrics and the log.

A number that arrived before a smaller one is a gap until that one arrives too; a gap that stays is loss.
`wattlog audit` knows the gaps of all time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from contracts import topics
from contracts.rows import Table

MAX_RUNS = 100_000
"""Producers' runs with gaps that are tracked. The gaps of further runs are not counted."""
REPORT_AFTER_MS = 60_000
"""A gap is reported after this time: until then its events may be on their way."""
REPORT_MAX = 20
"""Gaps reported at once."""

_Run = tuple[int, str, str, int]
"""(log partition, topic, source, epoch)."""


class SequenceGaps:
    """Missing events of producers' runs that were active since their partitions were assigned."""

    def __init__(self) -> None:
        self._missing: dict[_Run, int] = {}
        self._reported: dict[_Run, tuple[int, int]] = {}
        """When a run's gap was first seen, and how many missing events of it were reported."""

    def note(self, partition: int, sources: Table) -> None:
        """Note rows of `sources` that a partition is about to store."""
        last_seq, received = (np.asarray(sources[name]).astype(np.int64) for name in ("last_seq", "received"))
        missing = last_seq + 1 - received
        for i in np.flatnonzero((missing > 0) | bool(self._missing)).tolist():
            key = partition, str(sources["topic"][i]), str(sources["source"][i]), int(sources["epoch"][i])
            if missing[i] <= 0:
                self._missing.pop(key, None)
            elif key in self._missing or len(self._missing) < MAX_RUNS:
                self._missing[key] = int(missing[i])

    def clear(self) -> None:
        """Forget all gaps: a rebalance took the partitions away."""
        self._missing.clear()
        self._reported.clear()

    def take_reports(self, now_ms: int) -> list[str]:
        """Return a sentence for each gap that has lasted, or grown since it was reported; each is reported once."""
        self._reported = {run: report for run, report in self._reported.items() if run in self._missing}
        reports: list[str] = []
        for run, missing in self._missing.items():
            since_ms, reported = self._reported.setdefault(run, (now_ms, 0))
            if missing > reported and now_ms - since_ms >= REPORT_AFTER_MS and len(reports) < REPORT_MAX:
                self._reported[run] = since_ms, missing
                _, topic, source, epoch = run
                reports.append(f"{missing} events of {source}, run {epoch}, never came on {topic}")
        return reports

    def by_topic(self) -> Iterator[tuple[str, int]]:
        """Yield (topic, missing events) for both joined topics."""
        for topic in topics.JOINED:
            yield topic, sum(count for (_, of, _, _), count in self._missing.items() if of == topic)
