"""Deduplication by sequence number: which events of a source were read, exactly, in little memory, with gaps counted.

A source numbers its events 0, 1, 2 ... within an epoch. A run remembers `below` (every number under it was read) and
the few numbers `ahead` of that. A gap that stays is loss.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_AHEAD = 4096
"""Numbers kept ahead of the first gap. Beyond it, that gap is given up: it stays counted as lost, and an event that
fills it after all is a dead letter, because nobody knows any more whether it was read."""


class ContestedNumbers(NamedTuple):
    """Messages that are dead letters because their numbers were taken: their count, least and greatest number, and
    event times (epoch ms) of the earliest and the latest."""

    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def plus(self, seq: int, event_ms: int) -> ContestedNumbers:
        """Return these and one more message."""
        if not self.messages:
            return ContestedNumbers(1, seq, seq, event_ms, event_ms)
        return ContestedNumbers(
            self.messages + 1, min(self.first_seq, seq), max(self.last_seq, seq),
            min(self.first_ms, event_ms), max(self.last_ms, event_ms),
        )  # fmt: skip


NOT_CONTESTED = ContestedNumbers()


@dataclass(slots=True)
class SequenceRun:
    """Events read of one epoch of one source. Times are epoch milliseconds."""

    below: int = 0
    ahead: set[int] = field(default_factory=set)
    received: int = 0
    last_seq: int = -1
    duplicates: int = 0
    last_event_ms: int = 0
    active_ms: int = 0
    """When this run was last active: the partition's event time or its own, whichever was ahead."""
    given_up_below: int = 0
    """Below this, gaps were given up: a number that nobody remembers may have been read, or not."""
    contested: ContestedNumbers = NOT_CONTESTED

    def __contains__(self, seq: int) -> bool:
        return seq < self.below or seq in self.ahead

    def add(self, seq: int, event_ms: int, partition_ms: int = 0) -> bool:
        """Note one event, read when the partition was final up to `partition_ms`. Return False for a duplicate."""
        # Comparisons instead of max(): this runs twice per message.
        if event_ms > self.active_ms:
            self.active_ms = event_ms
        if partition_ms > self.active_ms:
            self.active_ms = partition_ms
        if seq == self.below and not self.ahead:  # Nearly always.
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
            self.below = self.given_up_below = min(self.ahead)
        while self.below in self.ahead:
            self.ahead.remove(self.below)
            self.below += 1

    @property
    def gaps(self) -> int:
        """Number of events numbered before the last one received that were never received."""
        return self.last_seq + 1 - self.received

    def dump(self) -> list[Any]:
        """Return the run as a list for JSON; `load` reads it."""
        seldom = [self.given_up_below, list(self.contested)] if self.given_up_below or self.contested.messages else []
        return [
            self.below, sorted(self.ahead), self.received, self.last_seq, self.duplicates, self.last_event_ms,
            self.active_ms, *seldom,
        ]  # fmt: skip

    @classmethod
    def load(cls, raw: list[Any]) -> SequenceRun:
        below, ahead, *counts = raw
        counts, seldom = counts[:5], counts[5:]
        run = cls(below, set(ahead), *counts)
        if seldom:
            run.given_up_below, run.contested = seldom[0], ContestedNumbers(*seldom[1])
        return run

    def copy(self) -> SequenceRun:
        return SequenceRun.load(self.dump())


SequenceRuns = dict[tuple[str, int], SequenceRun]
"""(source, epoch) -> its run."""


def prune(runs: SequenceRuns, before_ms: int, keep: int) -> int:
    """Forget runs that were not active since `before_ms`.

    If more than `keep` are left, forget those that were silent longest, a tenth of `keep` more than necessary, so that
    this is rare. Return how many of these were forgotten.
    """
    for k in [k for k, run in runs.items() if run.active_ms < before_ms]:
        del runs[k]
    if len(runs) <= keep:
        return 0
    excess = len(runs) - keep + keep // 10
    for k in sorted(runs, key=lambda k: (runs[k].active_ms, k))[:excess]:
        del runs[k]
    return excess
