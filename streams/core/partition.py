"""One log partition, as a state machine: messages in; what to store, what may be committed, what is rejected out.

No I/O and no clock: the shell hands in messages and the time, stores what `advance` returns, and says so. The crash
rule: an offset may be committed only when every window that its message touches is final and stored, in offset order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from contracts import topics
from contracts.columns import PowerColumns, TokenColumns
from contracts.errors import BadEvent
from contracts.events import Event, UsageBatch
from contracts.rows import Column, Table, conform, keys
from contracts.units import I64, MS_PER_DAY, MS_PER_HOUR
from streams.core import reading, sequence, versions
from streams.core.attribute import attribute
from streams.core.late import LateFacts, LateKey
from streams.core.mark import Cut, Mark
from streams.core.most import Most, most_of
from streams.core.policy import Policy
from streams.core.reading import Config, Message, Pending, Rejected, TopicState
from streams.core.requests import with_energy
from streams.core.stored import StoredKeys, touched_hours
from streams.core.windows import OpenWindows

__all__ = ["Config", "Counters", "Flush", "LateKey", "Message", "Partition", "Rejected", "touched_hours"]

SOURCE_MEMORY_MS = 7 * MS_PER_DAY
"""How long, in the partition's event time, a run of a source that fell silent is remembered: what it sends again later
counts anew."""
MAX_SOURCES = 100_000
"""Runs of sources that are remembered per topic; above it, the longest silent tenth is forgotten."""
PRUNE_EVERY_MS = 60_000
"""How often, in event time, runs that fell silent are looked for: looking at them all is dear."""
NO_BOUND = 2**62


@dataclass(frozen=True)
class Flush:
    """What must be stored, in this order: `tables`, the hours, the mark; then late facts, restated rows, the mark."""

    tables: dict[str, Table]
    late: dict[str, Table]
    late_keys: list[LateKey]
    final_before: int
    late_offsets: frozenset[tuple[str, int]]
    early: int = 0
    """Windows that were closed before their lateness had passed."""


class Counters(NamedTuple):
    """What an operator watches; monotone but for the first two."""

    open_windows: int
    open_rows: int
    duplicates: int
    late: int
    rejected: int
    rows: int
    forgotten: int


class Partition:
    """See the module. `stored_keys` are rows that a previous owner wrote beyond its last mark: what a final flush
    does not write again, it deletes."""

    def __init__(
        self,
        log_id: str,
        log_partition: int,
        config: Config,
        policy: Policy,
        *,
        epoch: int = 1,
        mark: Mark | None = None,
        stored_keys: Mapping[str, Iterable[tuple[Any, ...]]] | None = None,
        now_ms: int = 0,
    ) -> None:
        self.log_id, self.log_partition = log_id, log_partition
        self._config, self.policy = config, policy
        self._mark = mark or Mark()
        self._mark.epoch = self.epoch = epoch
        self._open = self._windows()
        self._final_before = self._stored_before = self._mark.final_end_ms // config.window_ms
        self._topics = {
            t: TopicState(
                self._mark.offsets[t], {k: run.copy() for k, run in self._mark.seen[t].items()}, arrived_ms=now_ms
            )
            for t in topics.JOINED
        }
        self._judged = {
            t: reading.Judged(self._mark.judged_below(t), frozenset(self._mark.refused[t])) for t in topics.JOINED
        }
        self._late = LateFacts()
        self._stored = StoredKeys(config.window_ms, stored_keys or {})
        self._changed_sources: set[tuple[str, str, int]] = set()
        self._mark_count = 0
        self._pruned_ms = 0
        self._counts = dict.fromkeys(("duplicates", "late", "rejected", "rows", "forgotten"), 0)

    # -- what comes in ------------------------------------------------------------------------------------------------

    def ingest(self, messages: Sequence[Message], now_ms: int) -> list[Rejected]:
        """Take messages in offset order per topic; returns those that cannot be read."""
        rejected: list[Rejected] = []
        for name in topics.JOINED:
            rejected += self._ingest_topic(name, [m for m in messages if m.topic == name], now_ms)
        return rejected

    def next_offset(self, topic: str) -> int:
        """The offset that `ingest` expects next; -1 before the first message of a log that may begin anywhere."""
        return self._topics[topic].next_offset

    def skip(self, topic: str, offset: int) -> None:
        """The log holds nothing between the offset expected next and this one (`core.holes` says how one knows)."""
        self._topics[topic].next_offset = offset

    def _ingest_topic(self, name: str, messages: Sequence[Message], now_ms: int) -> list[Rejected]:
        topic = self._topics[name]
        # What is not expected was stored before, and is read again because the commit comes last.
        fresh = [(m, topic.take(m, now_ms)) for m in messages if topic.expects(m)]
        step = reading.read([m for m, _ in fresh], now_ms, self._config, self._judged[name])
        rejected: list[Rejected] = []
        whole: list[int] = []
        for i, (message, pending) in enumerate(fresh):
            event = step.events[i]
            if isinstance(event, BadEvent):
                pending.held = True
                self._mark.refused[name].add(message.offset)
                self._counts["rejected"] += 1
                rejected.append(Rejected(message, event))
            elif self._accept(name, event, step.event_ms[i], step.first[i], step.last[i], pending):
                whole.append(i)
        events = [e for i in whole if isinstance(e := step.events[i], Event)]
        self._add(events, step.columns if whole == step.full else reading.columns_of([e.batch for e in events]))
        return rejected

    def _accept(self, name: str, event: Event, event_ms: int, first: int, last: int, pending: Pending) -> bool:
        """Note the event; True if all of it goes into open windows."""
        topic = self._topics[name]
        if topic.event_ms is None or event_ms > topic.event_ms:
            topic.event_ms = event_ms
        pending.event = (event.source, event.epoch, event.seq, event_ms)
        run = topic.runs.get((event.source, event.epoch))
        if run is None:
            run = topic.runs[event.source, event.epoch] = sequence.Run()
        if not run.add(event.seq, event_ms, self._mark.final_end_ms):
            self._counts["duplicates"] += 1
            return False
        pending.last = last
        rows = len(event.batch)
        self._counts["rows"] += rows
        if first >= self._final_before or not rows:
            return rows > 0
        self._accept_late(name, event, pending)
        return False

    def _add(
        self, events: Sequence[Event], columns: PowerColumns | TokenColumns | None, only: I64 | None = None,
        into: OpenWindows | None = None,
    ) -> None:  # fmt: skip
        """Add the columns of these events; `only` limits them to these window numbers."""
        subjects = [(e.cluster, e.workload) for e in events]
        windows = into or self._open
        if isinstance(columns, PowerColumns):
            windows.add_power(columns, subjects, only)
        elif isinstance(columns, TokenColumns):
            windows.add_tokens(columns, subjects, only)

    def _windows(self) -> OpenWindows:
        return OpenWindows(self._config.window_ms, keep_requests=self._config.keep_requests)

    def _accept_late(self, name: str, event: Event, pending: Pending) -> None:
        """Part of the event may lie in final windows: what is in them already is dropped, the rest is a late fact."""
        ms, batch = self._config.window_ms, event.batch
        assert not isinstance(batch, UsageBatch)
        numbers = reading.touched(batch, ms)
        passed = numbers < self._final_before
        late = [n for n in numbers[passed].tolist() if not self._mark.includes(name, pending.offset, (n + 1) * ms)]
        columns = reading.columns_of([batch])
        self._add([event], columns, numbers[~passed])
        if late:
            apart = self._windows()
            self._add([event], columns, np.array(late), apart)
            if apart.numbers():  # A request may run through a window and do nothing in it.
                pending.late = True
                self._counts["late"] += 1
                self._late.add(name, pending.offset, event, apart.facts(apart.numbers(), remove=True))

    def published(self, rejected: Iterable[Rejected]) -> None:
        """These are on the dead-letter topic: their offsets may be committed in their turn."""
        done = {(r.message.topic, r.message.offset) for r in rejected}
        if not done:
            return
        for name, topic in self._topics.items():
            for pending in topic.pending:
                if (name, pending.offset) in done:
                    pending.held = False

    # -- what goes out ------------------------------------------------------------------------------------------------

    def watermark(self, now_ms: int) -> int | None:
        """Up to where this partition is complete, in event time: see `reading.watermark`."""
        return reading.watermark(self._topics.values(), now_ms, self._config)

    def waited(self, ms: int) -> None:
        """The reader stood still for so long, and not for want of messages: that was no silence of the topics."""
        for topic in self._topics.values():
            topic.arrived_ms += ms

    def behind(self, now_ms: int) -> bool:
        """Whether windows are open that the watermark has passed: `advance` would close them."""
        watermark = self.watermark(now_ms)
        before = 0 if watermark is None else (watermark - self._config.lateness_ms) // self._config.window_ms
        return any(number < before for number in self._open.numbers())

    def advance(
        self, now_ms: int, *, at_most_rows: int = NO_BOUND, close_rows: int = NO_BOUND, late: bool = True
    ) -> Flush | None:
        """Close what the watermark has passed. What is returned must be stored before the next call.

        With `at_most_rows`, the oldest windows are closed early until no more are held: what still comes for them is
        late, so that their final rows are the same but for the revision. `close_rows` bounds the flush, one window and
        one late message at least: call again for the rest. Late facts wait where `late` is false.
        """
        watermark = self.watermark(now_ms)
        final_before = self._final_before
        if watermark is not None:
            final_before = max(final_before, (watermark - self._config.lateness_ms) // self._config.window_ms)
        numbers = self._to_close(final_before, self.open_rows - at_most_rows, close_rows)
        late = late and bool(self._late)
        if not numbers and not late:
            return None
        tables: dict[str, Table] = {}
        if numbers:
            tables = self._final_tables(numbers)
            self._final_before = numbers[-1] + 1
            end_ms = self._final_before * self._config.window_ms
            self._mark.cuts.append(Cut(end_ms, *(self._topics[t].next_offset for t in topics.JOINED)))
            self._mark.final_end_ms = end_ms
        early = sum(n >= final_before for n in numbers)
        if not late:
            return Flush(tables, {}, [], self._final_before, frozenset(), early)
        rows, keys_, offsets = self._late.take(
            close_rows, **self._provenance(versions.final(self.epoch, 0)), window_ms=self._config.window_ms
        )
        return Flush(tables, rows, keys_, self._final_before, offsets, early)

    def _to_close(self, before: int, excess: int, most: int) -> list[int]:
        """Open windows numbered below `before`, and further of the oldest while there is an excess of rows; so many
        rows at most, or one window."""
        found: list[int] = []
        for number in self._open.numbers():
            if number >= before and excess <= 0:
                break
            rows = self._open.rows_in(number)
            if found and rows > most:
                break
            found.append(number)
            excess, most = excess - rows, most - rows
        return found

    def _final_tables(self, numbers: list[int]) -> dict[str, Table]:
        facts = self._open.facts(numbers, remove=True)
        columns = facts.for_attribution()
        attribution = attribute(columns, self.policy)
        made: dict[str, Mapping[str, Column | int | str]] = {
            "gpu_energy": {**facts.gpu_energy(), "late_id": 0},
            "token_usage": {**facts.token_usage(), "late_id": 0},
            "request_energy": {**with_energy(facts.requests(), attribution, columns, all_here=True), "late_id": 0},
            "ledger": {**attribution.ledger, "revision": 0, "final": 1},
        }
        provenance = self._provenance(versions.final(self.epoch, 0))
        tables = {}
        for name, rows in made.items():
            table = conform(name, {**rows, **provenance, "window_ms": self._config.window_ms, "deleted": 0})
            tables[name] = self._stored.replace(name, table, self._stored.up_to(name, numbers[-1]), **provenance)
        return tables

    def provisional(self, now_ms: int) -> Table | None:
        """Ledger rows of windows that have ended but are still open, where they changed since the last call."""
        watermark = self.watermark(now_ms)
        if watermark is None:
            return None
        ended = (watermark + self._config.skew_ms) // self._config.window_ms
        progress = sum(max(t.next_offset, 0) for t in self._topics.values())
        numbers = self._open.changed(ended)
        if not numbers:
            return None
        ledger = attribute(self._open.facts(numbers, remove=False).for_attribution(), self.policy).ledger
        rows = {**ledger, "window_ms": self._config.window_ms, "revision": 0, "final": 0, "deleted": 0}
        provenance = self._provenance(versions.provisional(progress))
        table = self._stored.replace("ledger", conform("ledger", {**rows, **provenance}), numbers, **provenance)
        self._stored.add("ledger", keys("ledger", table))
        return table

    # -- what is stored -----------------------------------------------------------------------------------------------

    def finals_stored(self, flush: Flush) -> Table:
        """The flush's `tables` are stored. Returns the mark to store next."""
        self._stored_before = flush.final_before
        self._mark.hours.update(touched_hours(flush.tables["ledger"])[0])
        return self._settle()

    def hours_refreshed(self) -> None:
        """`ledger_hour` has all that the ledger has of this partition."""
        self._mark.hours.clear()

    def late_stored(self, flush: Flush) -> Table:
        """The flush's late facts and their restated rows are stored. Returns the mark to store next."""
        self._mark.hours.update(start // MS_PER_HOUR * MS_PER_HOUR for start, _, _ in flush.late_keys)
        for name, topic in self._topics.items():
            for pending in topic.pending:
                if (name, pending.offset) in flush.late_offsets:
                    pending.late = False
        return self._settle()

    def _settle(self) -> Table:
        """Move the mark over every message that is done, in offset order."""
        for name, topic in self._topics.items():
            while topic.pending:
                head = topic.pending[0]
                if head.held or head.late or head.last >= self._stored_before:
                    break
                topic.pending.popleft()
                self._mark.offsets[name] = head.offset + 1
                self._mark.refused[name].discard(head.offset)
                if head.event is not None:
                    source, epoch, seq, event_ms = head.event
                    self._mark.seen[name].setdefault((source, epoch), sequence.Run()).add(
                        seq, event_ms, self._mark.final_end_ms
                    )
                    self._changed_sources.add((name, source, epoch))
        self._forget_sources()
        self._mark.trim()
        return self.mark_row()

    def _forget_sources(self) -> None:
        """Those silent for long, now and then; those silent longest, whenever there are too many."""
        due = self._mark.final_end_ms - self._pruned_ms >= PRUNE_EVERY_MS
        before_ms = self._mark.final_end_ms - SOURCE_MEMORY_MS if due else 0
        for name, topic in self._topics.items():
            for runs in (topic.runs, self._mark.seen[name]):
                if due or len(runs) > MAX_SOURCES:
                    crowded_out = sequence.prune(runs, before_ms, MAX_SOURCES)
                    self._counts["forgotten"] += crowded_out if runs is topic.runs else 0
        if due:
            self._pruned_ms = self._mark.final_end_ms

    def settle(self) -> Table | None:
        """A mark for messages that were done without a flush (duplicates, heartbeats, dead letters), if any."""
        before = dict(self._mark.offsets)
        row = self._settle()
        return row if self._mark.offsets != before else None

    def mark_row(self) -> Table:
        """The mark as it stands; each row made supersedes the ones before."""
        self._mark_count += 1
        return self._mark.row(self.log_id, self.log_partition, versions.final(self.epoch, self._mark_count))

    def committable(self) -> dict[str, int]:
        """Per topic, the offset that may be committed (the next to read), once the mark is stored."""
        return {topic: offset for topic, offset in self._mark.offsets.items() if offset >= 0}

    def sources(self) -> Table | None:
        """Rows of `sources` that changed since the last call."""
        changed = [(t, s, e) for t, s, e in sorted(self._changed_sources) if (s, e) in self._mark.seen[t]]
        self._changed_sources.clear()
        if not changed:
            return None
        runs = [self._mark.seen[t][s, e] for t, s, e in changed]
        columns: dict[str, Column | int | str] = {
            **self._provenance(versions.final(self.epoch, self._mark_count)),
            "topic": [t for t, _, _ in changed],
            "source": [s for _, s, _ in changed],
            "epoch": np.array([e for _, _, e in changed], np.uint64),
            "received": np.array([r.received for r in runs], np.uint64),
            "last_seq": np.array([max(r.last_seq, 0) for r in runs], np.uint64),
            "duplicates": np.array([r.duplicates for r in runs], np.uint64),
            "last_event": np.array([r.last_event_ms for r in runs], np.int64),
        }
        return conform("sources", columns)

    @property
    def open_rows(self) -> int:
        """Memory held, in rows: open windows, the keys of what is stored of them, late facts that are not stored,
        messages that are not committed."""
        return self._open.rows + self._stored.rows + self._late.rows + self.pending

    @property
    def late_rows(self) -> int:
        """Rows of late facts that wait to be stored."""
        return self._late.rows

    @property
    def unstored(self) -> bool:
        """Whether anything waits to be stored: else nothing would be let go by waiting."""
        return bool(self._open.numbers() or self._late or self.pending)

    @property
    def gpus(self) -> int:
        """GPUs that open windows know; some of windows closed of late may be among them."""
        return len(self._open.gpus)

    @property
    def payers(self) -> int:
        """Tenants, by workload and model, that open windows know; some of windows closed of late may be among them."""
        return len(self._open.payers)

    def most_of(self) -> Most | None:
        """What there is most of among these. Looks at every key: for a log line, not for every step."""
        return most_of(self._open.gpus, self._open.payers)

    @property
    def pending(self) -> int:
        """Messages that are read and may not be committed yet."""
        return sum(len(t.pending) for t in self._topics.values())

    def counters(self) -> Counters:
        """Figures for /metrics."""
        return Counters(len(self._open.numbers()), self.open_rows, **self._counts)

    def _provenance(self, version: int) -> dict[str, int | str]:
        return {"log_id": self.log_id, "log_partition": self.log_partition, "version": version}
