"""Checkpoint of a partition: what it must remember across a restart.

It is stored as one row of the table `marks`, so it is written completely or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from contracts import topics
from contracts.rows import Table, conform
from contracts.units import MS_PER_DAY
from streams.core.sequence import SequenceRun, SequenceRuns

GROWTH_MS = MS_PER_DAY
"""How long after partitions were added events may lie where they belonged before."""


class Cut(NamedTuple):
    """Offsets of both topics at the moment when windows up to `final_end_ms` became final.

    Messages below these offsets are in those windows; later ones are late for them.
    """

    final_end_ms: int
    power_offset: int
    tokens_offset: int

    def offset(self, topic: str) -> int:
        return self.power_offset if topic == topics.POWER else self.tokens_offset


@dataclass
class Checkpoint:
    """Everything below `offsets` is stored; windows that end at `final_end_ms` or before are final.

    An offset is -1 until the first message of its topic is read: the log may begin anywhere.
    """

    epoch: int = 0
    final_end_ms: int = 0
    offsets: dict[str, int] = field(default_factory=lambda: dict.fromkeys(topics.JOINED, -1))
    cuts: list[Cut] = field(default_factory=list)
    seen: dict[str, SequenceRuns] = field(default_factory=lambda: {topic: {} for topic in topics.JOINED})
    """By topic, the sequence numbers that were read of each source below `offsets`."""
    refused: dict[str, set[int]] = field(default_factory=lambda: {topic: set() for topic in topics.JOINED})
    """Offsets, not below `offsets`, of rejected messages. Whether an event is in the future depends on when it is read.
    So a message that was read before a window was closed is judged as it was judged then."""
    hours: set[int] = field(default_factory=set)
    """Hours (epoch ms) for which the ledger has rows that `ledger_hour` may lack."""
    partitions: int = 0
    """Number of the topics' partitions; 0 where it is unknown."""
    partitions_before: dict[int, int] = field(default_factory=dict)
    """Numbers of partitions that it had before, with the time (epoch ms) when it was seen to have changed."""

    def includes(self, topic: str, offset: int, window_end_ms: int) -> bool:
        """Return True if this message was read before that final window was closed. If not, it is late for it."""
        for cut in self.cuts:
            if cut.final_end_ms >= window_end_ms:
                return offset < cut.offset(topic)
        return False

    def judged_below(self, topic: str) -> int:
        """Return the offset below which messages were read before some window was closed: `refused` is complete."""
        return max((cut.offset(topic) for cut in self.cuts), default=-1)

    def partition_counts(self, count: int, now_ms: int) -> tuple[int, ...]:
        """Note the number of the topics' partitions. Return those under which events may have been written.

        For GROWTH_MS after partitions were added, the numbers of before are among them: for events that were not read
        yet, and those of producers that had not learned of it.
        """
        if self.partitions and count != self.partitions:
            self.partitions_before[self.partitions] = now_ms
        self.partitions = count
        self.partitions_before = {n: ms for n, ms in self.partitions_before.items() if now_ms - ms < GROWTH_MS}
        return (count, *(n for n in self.partitions_before if n != count))

    def trim(self) -> None:
        """Drop cuts that no message needs any more. The newest of those stays, so that `includes` can answer "late".

        Only from the front: after a restart the next offset steps back, so a later cut may be passed before an earlier.
        """
        while len(self.cuts) > 1 and self._is_past(self.cuts[0]) and self._is_past(self.cuts[1]):
            del self.cuts[0]

    def _is_past(self, cut: Cut) -> bool:
        return all(cut.offset(topic) <= self.offsets[topic] for topic in topics.JOINED)

    def row(self, log_id: str, log_partition: int, version: int) -> Table:
        """Return the checkpoint as a row of `marks`."""
        state = {
            "cuts": self.cuts,
            "seen": {
                t: [[source, epoch, run.dump()] for (source, epoch), run in r.items()] for t, r in self.seen.items()
            },
            "refused": {t: sorted(offsets) for t, offsets in self.refused.items()},
            "hours": sorted(self.hours),
            "partitions": [self.partitions, list(self.partitions_before.items())],
        }
        return conform(
            "marks",
            {
                "log_id": log_id, "log_partition": log_partition, "epoch": self.epoch, "version": version,
                "final_end": self.final_end_ms, "power_offset": self.offsets[topics.POWER],
                "tokens_offset": self.offsets[topics.TOKENS], "state": json.dumps(state, separators=(",", ":")),
            },
        )  # fmt: skip

    @classmethod
    def load(cls, row: dict[str, Any]) -> Checkpoint:
        """Return the checkpoint in a row of `marks` (times as epoch milliseconds)."""
        state = json.loads(row["state"])
        partitions, before = state.get("partitions", (0, ()))
        return cls(
            epoch=row["epoch"],
            final_end_ms=row["final_end"],
            offsets={topics.POWER: row["power_offset"], topics.TOKENS: row["tokens_offset"]},
            cuts=[Cut(*c) for c in state["cuts"]],
            seen={
                t: {(source, epoch): SequenceRun.load(run) for source, epoch, run in r}
                for t, r in state["seen"].items()
            },
            refused={t: set(state.get("refused", {}).get(t, ())) for t in topics.JOINED},
            hours=set(state.get("hours", ())),
            partitions=partitions,
            partitions_before=dict(before),
        )
