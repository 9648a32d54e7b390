"""How far one log partition is: what was read of its two topics, how far that lets time go, and what of it is stored.

The mark moves in offset order: over a message once every window that it touches is final and stored, what is late in it
too, and the dead letter, if it is one, published. Below the mark, offsets may be committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Set
from dataclasses import dataclass, field

import msgspec
import numpy as np

from contracts import topics
from contracts.errors import LedgerError
from contracts.events import Event
from contracts.rows import Column, Table, conform
from contracts.units import MS_PER_DAY
from streams.core import row_versions, sequence
from streams.core.checkpoint import Checkpoint, Cut
from streams.core.decoding import LogMessage, PartitionConfig, PriorVerdicts
from streams.core.sequence import SequenceRuns

SOURCE_MEMORY_MS = 7 * MS_PER_DAY
"""How long, in the partition's event time, a run of a source that fell silent is remembered: what it sends again later
counts anew."""
MAX_SOURCES = 100_000
"""Runs of sources that are remembered per topic; above it, the longest silent tenth is forgotten."""
PRUNE_EVERY_MS = 60_000
"""How often, in event time, runs that fell silent are looked for: looking at them all is dear."""


class PendingMessage(
    msgspec.Struct, gc=False
):  # One a message: made in a third of a dataclass's time, never in a cycle.
    """A message that is read and not yet committed. `last` is the last window it touches (-1: none); it is `held` while
    it has to be published as a dead letter, `late` while late facts of it have to be stored."""

    offset: int
    last: int = -1
    held: bool = False
    late: bool = False
    run: tuple[str, int] | None = None
    """(source, epoch) of its event, and the event's place and time in that run."""
    seq: int = 0
    event_ms: int = 0


@dataclass(slots=True)
class TopicState:
    """Where one of the two topics stands."""

    next_offset: int
    """-1 until the first message: the log may begin anywhere."""
    runs: SequenceRuns
    event_ms: int | None = None
    arrived_ms: int = 0
    pending: deque[PendingMessage] = field(default_factory=deque)

    def expects(self, message: LogMessage) -> bool:
        """False for what is stored already. Raises LedgerError for a hole: the log lost messages that nobody read."""
        if self.next_offset >= 0 and message.offset > self.next_offset:
            raise LedgerError(
                f"{message.topic} lost messages {self.next_offset} to {message.offset - 1}: it was trimmed before they "
                "were read (lengthen its retention), or a transactional producer wrote to it (use an idempotent one). "
                "`wattlog stream --accept-loss` goes on without them"
            )
        return message.offset >= self.next_offset

    def take(self, message: LogMessage, now_ms: int) -> PendingMessage:
        """Note that the message is here; it is pending until what it touches is stored."""
        self.next_offset, self.arrived_ms = message.offset + 1, now_ms
        pending = PendingMessage(message.offset)
        self.pending.append(pending)
        return pending


def watermark(states: Collection[TopicState], now_ms: int, config: PartitionConfig) -> int | None:
    """Up to where a partition is complete, in event time, or None before anything came.

    The lower of the two topics' greatest event times, less the skew. A topic that is silent for the idle timeout
    does not hold it back; when both are silent, it goes on with the clock.
    """
    seen = [t for t in states if t.event_ms is not None]
    if not seen:
        return None
    active = [t for t in states if now_ms - t.arrived_ms < config.idle_timeout_ms]
    if not active:
        newest = max(t.event_ms or 0 for t in seen)
        return newest + now_ms - max(t.arrived_ms for t in seen) - config.skew_ms
    if any(t.event_ms is None for t in active):
        return None
    return min(t.event_ms or 0 for t in active) - config.skew_ms


class Progress:
    """See the module. It goes on from a `mark`; windows up to the mark's are `stored_before`, by number."""

    def __init__(self, mark: Checkpoint, log_id: str, log_partition: int, stored_before: int, now_ms: int) -> None:
        self.mark, self._log_id, self._log_partition = mark, log_id, log_partition
        self.topics = {
            t: TopicState(mark.offsets[t], {k: run.copy() for k, run in mark.seen[t].items()}, arrived_ms=now_ms)
            for t in topics.JOINED
        }
        self.judged = {t: PriorVerdicts(mark.judged_below(t), frozenset(mark.refused[t])) for t in topics.JOINED}
        self.duplicates = self.forgotten = 0
        """Events that had been seen; runs of sources that were forgotten for want of room."""
        self._stored_before = stored_before
        self._changed: dict[str, set[tuple[str, int]]] = {t: set() for t in topics.JOINED}
        self._marks = 0
        self._pruned_ms = 0

    # -- what was read ------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Messages that are read and may not be committed yet."""
        return sum(len(t.pending) for t in self.topics.values())

    @property
    def read(self) -> int:
        """Offsets of the log that were read, both topics together."""
        return sum(max(t.next_offset, 0) for t in self.topics.values())

    def heard(self, topic: str, pending: PendingMessage, event: Event, event_ms: int) -> bool:
        """The message is this event; False if it had been seen."""
        state = self.topics[topic]
        if state.event_ms is None or event_ms > state.event_ms:
            state.event_ms = event_ms
        key = pending.run = event.source, event.epoch
        pending.seq, pending.event_ms = event.seq, event_ms
        run = state.runs.get(key)
        if run is None:
            run = state.runs[key] = sequence.SequenceRun()
        if run.add(event.seq, event_ms, self.mark.final_end_ms):
            return True
        self.duplicates += 1
        return False

    def refused(self, topic: str, pending: PendingMessage) -> None:
        """The message is for the dead-letter topic: it is held until it is there."""
        pending.held = True
        self.mark.refused[topic].add(pending.offset)

    def closed(self, end_ms: int) -> None:
        """Windows up to `end_ms` become final, with what was read by now."""
        self.mark.cuts.append(Cut(end_ms, *(self.topics[t].next_offset for t in topics.JOINED)))
        self.mark.final_end_ms = end_ms

    # -- what is stored -----------------------------------------------------------------------------------------------

    def published(self, at: Set[tuple[str, int]]) -> None:
        """The messages at these (topic, offset)s are on the dead-letter topic."""
        for pending in self._at(at):
            pending.held = False

    def finals_stored(self, before: int, hours_ms: Iterable[int]) -> Table:
        """Windows numbered below `before` are stored; `ledger_hour` may lack them. Returns the mark to store next."""
        self._stored_before = before
        return self._stored(hours_ms)

    def late_stored(self, at: Set[tuple[str, int]], hours_ms: Iterable[int]) -> Table:
        """The late facts of the messages there are stored, and restated. Returns the mark to store next."""
        for pending in self._at(at):
            pending.late = False
        return self._stored(hours_ms)

    def _stored(self, hours_ms: Iterable[int]) -> Table:
        self.mark.hours.update(hours_ms)
        self.settle()
        return self.mark_row()

    def _at(self, at: Set[tuple[str, int]]) -> Iterator[PendingMessage]:
        return (p for name, topic in self.topics.items() if at for p in topic.pending if (name, p.offset) in at)

    def settle(self) -> bool:
        """Move the mark over every message that is done, in offset order; whether there were any."""
        moved = False
        for name, topic in self.topics.items():
            while topic.pending:
                head = topic.pending[0]
                if head.held or head.late or head.last >= self._stored_before:
                    break
                self._pass_over(name, topic.pending.popleft())
                moved = True
        self._forget_sources()
        self.mark.trim()
        return moved

    def _pass_over(self, name: str, done: PendingMessage) -> None:
        mark = self.mark
        mark.offsets[name] = done.offset + 1
        if refused := mark.refused[name]:
            refused.discard(done.offset)
        if (key := done.run) is not None:
            seen = mark.seen[name]
            run = seen.get(key)
            if run is None:
                run = seen[key] = sequence.SequenceRun()
            run.add(done.seq, done.event_ms, mark.final_end_ms)
            self._changed[name].add(key)

    def _forget_sources(self) -> None:
        """Those silent for long, now and then; those silent longest, whenever there are too many."""
        due = self.mark.final_end_ms - self._pruned_ms >= PRUNE_EVERY_MS
        before_ms = self.mark.final_end_ms - SOURCE_MEMORY_MS if due else 0
        for name, topic in self.topics.items():
            for runs in (topic.runs, self.mark.seen[name]):
                if due or len(runs) > MAX_SOURCES:
                    crowded_out = sequence.prune(runs, before_ms, MAX_SOURCES)
                    self.forgotten += crowded_out if runs is topic.runs else 0
        if due:
            self._pruned_ms = self.mark.final_end_ms

    def mark_row(self) -> Table:
        """The mark as it stands; each row made supersedes the ones before."""
        self._marks += 1
        return self.mark.row(self._log_id, self._log_partition, row_versions.final(self.mark.epoch, self._marks))

    def sources(self) -> Table | None:
        """Rows of `sources` that changed since the last call."""
        changed = [
            (t, *key) for t in sorted(self._changed) for key in sorted(self._changed[t] & self.mark.seen[t].keys())
        ]
        for keys in self._changed.values():
            keys.clear()
        if not changed:
            return None
        runs = [self.mark.seen[t][s, e] for t, s, e in changed]
        columns: dict[str, Column | int | str] = {
            "log_id": self._log_id,
            "log_partition": self._log_partition,
            "version": row_versions.final(self.mark.epoch, self._marks),
            "topic": [t for t, _, _ in changed],
            "source": [s for _, s, _ in changed],
            "epoch": np.array([e for _, _, e in changed], np.uint64),
            "received": np.array([r.received for r in runs], np.uint64),
            "last_seq": np.array([max(r.last_seq, 0) for r in runs], np.uint64),
            "duplicates": np.array([r.duplicates for r in runs], np.uint64),
            "last_event": np.array([r.last_event_ms for r in runs], np.int64),
        }
        return conform("sources", columns)
