"""Which events of a source have been seen: exactly, in little memory, and with the holes counted.

A source numbers its events 0, 1, 2 ... within an epoch. What is seen is `below` (everything under it) and the few
numbers `ahead` of that. A hole that stays is loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_AHEAD = 4096
"""Numbers kept ahead of the first hole. Beyond it the hole is given up as lost: it stays counted as a gap, and an event
that fills it after all is taken for a duplicate."""


@dataclass(slots=True)
class SequenceRun:
    """One epoch of one source."""

    below: int = 0
    ahead: set[int] = field(default_factory=set)
    received: int = 0
    last_seq: int = -1
    duplicates: int = 0
    last_event_ms: int = 0
    heard_ms: int = 0
    """When this run was last heard, in the partition's event time or its own, whichever was ahead."""

    def __contains__(self, seq: int) -> bool:
        return seq < self.below or seq in self.ahead

    def add(self, seq: int, event_ms: int, partition_ms: int = 0) -> bool:
        """Note one event, heard when the partition was final up to `partition_ms`; False if it had been seen."""
        # Comparisons, not max(): every message comes here, twice.
        if event_ms > self.heard_ms:
            self.heard_ms = event_ms
        if partition_ms > self.heard_ms:
            self.heard_ms = partition_ms
        if seq == self.below and not self.ahead:  # As nearly always.
            self.below = seq + 1
        elif seq in self:
            self.duplicates += 1
            return False
        else:
            self._keep_ahead(seq)
        self.received += 1
        if seq > self.last_seq:
            self.last_seq = seq
        if event_ms > self.last_event_ms:
            self.last_event_ms = event_ms
        return True

    def _keep_ahead(self, seq: int) -> None:
        self.ahead.add(seq)
        if len(self.ahead) > MAX_AHEAD:
            self.below = min(self.ahead)
        while self.below in self.ahead:
            self.ahead.remove(self.below)
            self.below += 1

    @property
    def gaps(self) -> int:
        """Events that were sent before the last one received, and never came."""
        return self.last_seq + 1 - self.received

    def dump(self) -> list[Any]:
        return [
            self.below, sorted(self.ahead), self.received, self.last_seq, self.duplicates, self.last_event_ms,
            self.heard_ms,
        ]  # fmt: skip

    @classmethod
    def load(cls, raw: list[Any]) -> SequenceRun:
        below, ahead, *rest = raw
        return cls(below, set(ahead), *rest)

    def copy(self) -> SequenceRun:
        return SequenceRun.load(self.dump())


SequenceRuns = dict[tuple[str, int], SequenceRun]
"""(source, epoch) -> what was seen of it."""


def prune(runs: SequenceRuns, before_ms: int, keep: int) -> int:
    """Forget runs not heard since `before_ms`. If more than `keep` are left, forget the longest silent of them, a tenth
    of `keep` more than must be, so that this is rare; returns how many were forgotten for want of room."""
    for k in [k for k, run in runs.items() if run.heard_ms < before_ms]:
        del runs[k]
    if len(runs) <= keep:
        return 0
    excess = len(runs) - keep + keep // 10
    for k in sorted(runs, key=lambda k: (runs[k].heard_ms, k))[:excess]:
        del runs[k]
    return excess
