"""Progress of one log partition: what was read, what is stored, and how far the checkpoint is.

`Progress.advance_checkpoint` decides how far offsets may be committed; `streams.assignment` has the whole rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

import numpy as np

from contracts import topics
from contracts.events import Event
from contracts.rows import Column, Table, conform
from contracts.units import MS_PER_DAY
from streams.core import row_versions, sequence
from streams.core.checkpoint import Checkpoint, Cut
from streams.core.decoding import PriorVerdicts
from streams.core.topic_progress import PendingMessage, TopicProgress

SOURCE_MEMORY_MS = 7 * MS_PER_DAY
"""How long a silent run of a source is remembered, in the partition's event time. What it sends again after that counts
twice."""
MAX_SOURCES = 100_000
"""Runs of sources remembered per topic. Above it, the tenth part of them that has been silent longest is forgotten."""
PRUNE_EVERY_MS = 60_000
"""Interval, in event time, between searches for silent runs: a search looks at all of them."""

MessagePlace = tuple[str, int]
"""(topic, offset) of a message of this partition."""


class Progress:
    """Read positions, pending messages and the checkpoint of a partition.

    It continues from `checkpoint`; windows numbered below `stored_before` are stored already.
    """

    def __init__(
        self, checkpoint: Checkpoint, log_id: str, log_partition: int, stored_before: int, now_ms: int
    ) -> None:
        self.checkpoint, self._log_id, self._log_partition = checkpoint, log_id, log_partition
        self.topics = {
            t: TopicProgress(
                checkpoint.offsets[t], {k: run.copy() for k, run in checkpoint.seen[t].items()}, arrived_ms=now_ms
            )
            for t in topics.JOINED
        }
        self.prior_verdicts = {
            t: PriorVerdicts(checkpoint.judged_below(t), frozenset(checkpoint.refused[t])) for t in topics.JOINED
        }
        self.duplicates = 0
        """Events that had been read before."""
        self.forgotten = 0
        """Runs of sources that were forgotten because there were more than MAX_SOURCES."""
        self._stored_before = stored_before
        self._changed: dict[str, set[tuple[str, int]]] = {t: set() for t in topics.JOINED}
        self._checkpoints = 0
        self._pruned_ms = 0

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Number of messages that were read and may not be committed yet."""
        return sum(len(t.pending) for t in self.topics.values())

    @property
    def offsets_read(self) -> int:
        """Number of offsets that were read, both topics together."""
        return sum(max(t.next_offset, 0) for t in self.topics.values())

    @property
    def event_ms_total(self) -> int:
        """Sum of both topics' greatest event times: its growth is the speed of reading."""
        return sum(topic.event_ms or 0 for topic in self.topics.values())

    def next_offset(self, topic: str) -> int:
        """Return the offset expected next; -1 before the first message of a log that may begin anywhere."""
        return self.topics[topic].next_offset

    def skip_to(self, topic: str, offset: int) -> None:
        """Continue at this offset: the log holds no message before it (see `core.offset_gaps`)."""
        self.topics[topic].next_offset = offset

    def exclude_wait(self, ms: int) -> None:
        """Do not count this time as silence of the topics: the worker itself was not reading."""
        for topic in self.topics.values():
            topic.arrived_ms += ms

    def note_event(self, topic: str, pending: PendingMessage, event: Event, event_ms: int) -> bool:
        """Note the event of a message. Return False for a duplicate."""
        state = self.topics[topic]
        if state.event_ms is None or event_ms > state.event_ms:
            state.event_ms = event_ms
        key = pending.run = event.source, event.epoch
        pending.seq, pending.event_ms = event.seq, event_ms
        run = state.runs.get(key)
        if run is None:
            run = state.runs[key] = sequence.SequenceRun()
        if run.add(event.seq, event_ms, self.checkpoint.final_end_ms):
            return True
        self.duplicates += 1
        return False

    def note_contested(self, pending: PendingMessage, event: Event, event_ms: int) -> None:
        """Note a message whose number was taken; it is a dead letter too."""
        pending.run, pending.contested = (event.source, event.epoch), True
        pending.seq, pending.event_ms = event.seq, event_ms

    def note_rejected(self, topic: str, pending: PendingMessage) -> None:
        """Note a message for the dead-letter topic: it blocks the checkpoint until it is published."""
        pending.unpublished = True
        self.checkpoint.refused[topic].add(pending.offset)

    def note_final(self, end_ms: int) -> None:
        """Note that windows up to `end_ms` become final with the messages read by now."""
        self.checkpoint.cuts.append(Cut(end_ms, *(self.topics[t].next_offset for t in topics.JOINED)))
        self.checkpoint.final_end_ms = end_ms

    # -- storing ------------------------------------------------------------------------------------------------------

    def dead_letters_published(self, places: Set[MessagePlace]) -> None:
        """Let the checkpoint pass these messages, which are on the dead-letter topic now, in their turn."""
        for pending in self._pending_at(places):
            pending.unpublished = False

    def finals_stored(self, before: int, hours_ms: Iterable[int]) -> Table:
        """Note that windows numbered below `before` are stored, and that `ledger_hour` may lack these hours.

        Return the checkpoint row to store next.
        """
        self._stored_before = before
        return self._stored(hours_ms)

    def late_stored(self, places: Set[MessagePlace], hours_ms: Iterable[int]) -> Table:
        """Note that the late facts of these messages are stored and restated. Return the checkpoint row to store."""
        for pending in self._pending_at(places):
            pending.late = False
        return self._stored(hours_ms)

    def _stored(self, hours_ms: Iterable[int]) -> Table:
        self.checkpoint.hours.update(hours_ms)
        self.advance_checkpoint()
        return self.checkpoint_row()

    def _pending_at(self, places: Set[MessagePlace]) -> Iterator[PendingMessage]:
        return (p for name, topic in self.topics.items() if places for p in topic.pending if (name, p.offset) in places)

    def advance_checkpoint(self) -> bool:
        """Move the checkpoint over every message that nothing holds back, in offset order. Return True if it moved.

        A message holds it back until every window that the message touches is final and stored, its late facts are
        stored and restated, and its dead letter, if it is one, is published.
        """
        moved = False
        for name, topic in self.topics.items():
            while topic.pending:
                head = topic.pending[0]
                if head.unpublished or head.late or head.last_window >= self._stored_before:
                    break
                self._pass(name, topic.pending.popleft())
                moved = True
        self._forget_sources()
        self.checkpoint.trim()
        return moved

    def _pass(self, name: str, message: PendingMessage) -> None:
        checkpoint = self.checkpoint
        checkpoint.offsets[name] = message.offset + 1
        if refused := checkpoint.refused[name]:
            refused.discard(message.offset)
        if (key := message.run) is not None:
            seen = checkpoint.seen[name]
            run = seen.get(key)
            if run is None:
                run = seen[key] = sequence.SequenceRun()
            if message.contested:
                run.contested = run.contested.plus(message.seq, message.event_ms)
            else:
                run.add(message.seq, message.event_ms, checkpoint.final_end_ms)
            self._changed[name].add(key)

    def _forget_sources(self) -> None:
        """Forget runs that were silent for SOURCE_MEMORY_MS, now and then; the oldest whenever there are too many."""
        final_end_ms = self.checkpoint.final_end_ms
        due = final_end_ms - self._pruned_ms >= PRUNE_EVERY_MS
        before_ms = final_end_ms - SOURCE_MEMORY_MS if due else 0
        for name, topic in self.topics.items():
            for runs in (topic.runs, self.checkpoint.seen[name]):
                if due or len(runs) > MAX_SOURCES:
                    crowded_out = sequence.prune(runs, before_ms, MAX_SOURCES)
                    self.forgotten += crowded_out if runs is topic.runs else 0
        if due:
            self._pruned_ms = final_end_ms

    def checkpoint_if_moved(self) -> Table | None:
        """Advance over messages that needed no flush (duplicates, heartbeats, dead letters).

        Return the checkpoint row to store, or None if the checkpoint did not move.
        """
        return self.checkpoint_row() if self.advance_checkpoint() else None

    def checkpoint_row(self) -> Table:
        """Return the current checkpoint as a row of `marks`. Each row supersedes the ones before it."""
        self._checkpoints += 1
        version = row_versions.final(self.checkpoint.epoch, self._checkpoints)
        return self.checkpoint.row(self._log_id, self._log_partition, version)

    def checkpoint_offsets(self) -> dict[str, int]:
        """Return the checkpoint's offset by topic: the next to read, and to commit once the checkpoint is stored."""
        return {topic: offset for topic, offset in self.checkpoint.offsets.items() if offset >= 0}

    def take_source_rows(self) -> Table | None:
        """Return the rows of `sources` that changed since the last call, or None."""
        changed = [
            (t, *key)
            for t in sorted(self._changed)
            for key in sorted(self._changed[t] & self.checkpoint.seen[t].keys())
        ]
        for keys in self._changed.values():
            keys.clear()
        if not changed:
            return None
        runs = [self.checkpoint.seen[t][s, e] for t, s, e in changed]
        columns: dict[str, Column | int | str] = {
            "log_id": self._log_id,
            "log_partition": self._log_partition,
            "version": row_versions.final(self.checkpoint.epoch, self._checkpoints),
            "topic": [t for t, _, _ in changed],
            "source": [s for _, s, _ in changed],
            "epoch": np.array([e for _, _, e in changed], np.uint64),
            "received": np.array([r.received for r in runs], np.uint64),
            "last_seq": np.array([max(r.last_seq, 0) for r in runs], np.uint64),
            "duplicates": np.array([r.duplicates for r in runs], np.uint64),
            "last_event": np.array([r.last_event_ms for r in runs], np.int64),
            "contested": np.array([r.contested.messages for r in runs], np.uint64),
            "contested_first_seq": np.array([r.contested.first_seq for r in runs], np.uint64),
            "contested_last_seq": np.array([r.contested.last_seq for r in runs], np.uint64),
            "contested_first": np.array([r.contested.first_ms for r in runs], np.int64),
            "contested_last": np.array([r.contested.last_ms for r in runs], np.int64),
        }
        return conform("sources", columns)
