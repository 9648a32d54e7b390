"""Lag of the watermarks behind the clock, and gauges of what the partitions hold."""

from __future__ import annotations

import logging

from contracts import topics
from streams import metrics
from streams.assignment import Assignment
from streams.sequence_gaps import SequenceGaps

log = logging.getLogger("wattlog.stream")


class LagMonitor:
    """Lag of the owned partitions, sampled about once a second. Times are epoch milliseconds."""

    def __init__(self, assignment: Assignment, sequence_gaps: SequenceGaps, lateness_ms: int) -> None:
        self._assignment, self._sequence_gaps, self._lateness_ms = assignment, sequence_gaps, lateness_ms
        self.sampled_ms = 0
        """When the last sample was taken; 0 before the first."""
        self._sampled_event_ms = 0

    def lag_ms(self, now_ms: int) -> int:
        """Return how far the slowest partition's watermark is behind the clock."""
        watermarks = (partition.watermark(now_ms) for partition in self._assignment.partitions())
        return max((now_ms - w for w in watermarks if w is not None), default=0)

    def catching_up(self, now_ms: int, *, idle: bool) -> bool:
        """Return True if the worker reads a backlog.

        It is behind by more than the lateness, and either has messages in hand (is not `idle`), or event time has run
        at more than twice the speed of the clock since the last sample.
        """
        since_ms = now_ms - (self.sampled_ms or now_ms)
        clocks = len(topics.JOINED) * len(self._assignment.owned)
        fast = self._event_ms_total() - self._sampled_event_ms > 2 * clocks * since_ms
        return (fast or not idle) and self.lag_ms(now_ms) > self._lateness_ms

    def sample(self, now_ms: int) -> None:
        """Remember the event times of now, set gauges, and log sequence gaps that have lasted."""
        self.sampled_ms, self._sampled_event_ms = now_ms, self._event_ms_total()
        for number, assigned in self._assignment.owned.items():
            if (watermark := assigned.partition.watermark(now_ms)) is not None:
                metrics.WATERMARK_LAG.labels(str(number)).set((now_ms - watermark) / 1000)
        for report in self._sequence_gaps.take_reports(now_ms):
            log.warning("%s; `wattlog audit` knows the gaps of all time", report)
        for topic, missing in self._sequence_gaps.by_topic():
            metrics.SEQUENCE_GAPS.labels(topic).set(missing)
        partitions = self._assignment.partitions()
        counters = [partition.counters() for partition in partitions]
        metrics.DUPLICATES.set(sum(c.duplicates for c in counters))
        metrics.LATE.set(sum(c.late for c in counters))
        metrics.OPEN_WINDOWS.set(sum(c.open_windows for c in counters))
        metrics.UNACKED.set(sum(partition.progress.pending for partition in partitions))

    def _event_ms_total(self) -> int:
        return sum(partition.progress.event_ms_total for partition in self._assignment.partitions())
