"""One log partition, as a state machine: messages in; what to store, what may be committed, what is rejected out.

No I/O and no clock: the shell hands in messages and the time, stores what `advance` returns, and says so. The crash
rule: an offset may be committed only when every window that its message touches is final and stored, in offset order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from contracts import topics
from contracts.codec import AnyHeaders, decode
from contracts.errors import BadEvent, LedgerError
from contracts.events import Event, PowerBatch, TokenBatch
from contracts.rows import Column, Table, concat, conform, keys, length, tombstones
from contracts.units import MS_PER_DAY
from streams.core import sequence, versions
from streams.core.attribute import attribute
from streams.core.mark import Cut, Mark
from streams.core.policy import Policy
from streams.core.restate import with_energy
from streams.core.windows import OpenWindows, WindowFacts

SOURCE_MEMORY_MS = 7 * MS_PER_DAY
"""How long, in event time, a run of a source that fell silent is remembered: what it sends again later counts anew."""
MAX_SOURCES = 100_000


@dataclass(frozen=True)
class Config:
    """What a partition needs of the settings; all in milliseconds."""

    window_ms: int = 10_000
    lateness_ms: int = 120_000
    skew_ms: int = 5_000
    idle_timeout_ms: int = 30_000


class Message(NamedTuple):
    """A raw message of one of the two joined topics."""

    topic: str
    offset: int
    headers: AnyHeaders
    value: bytes | None


class Rejected(NamedTuple):
    """A message for the dead-letter topic. It blocks commits until the shell says that it was published."""

    message: Message
    error: BadEvent


LateKey = tuple[int, str, str]
"""(window_start, cluster, workload) that late facts touch."""


@dataclass(frozen=True)
class Flush:
    """What must be stored, in this order: `tables`, the hours, the mark; then late facts, restated rows, the mark."""

    tables: dict[str, Table]
    late: dict[str, Table]
    late_keys: list[LateKey]
    final_before: int
    late_offsets: frozenset[tuple[str, int]]


def touched_hours(ledger: Table, hour_ms: int = 3_600_000) -> tuple[list[int], list[str], list[str]]:
    """(hours in epoch ms, clusters, workloads) of ledger rows."""
    if not length(ledger):
        return [], [], []
    starts = np.asarray(ledger["window_start"], np.int64)
    return (
        (np.unique(starts // hour_ms) * hour_ms).tolist(),
        sorted(set(ledger["cluster"])),
        sorted(set(ledger["workload"])),
    )


@dataclass(slots=True)
class _Pending:
    """A message that is read and not yet committed. `last` is the last window it touches (-1: none)."""

    offset: int
    last: int = -1
    held: bool = False
    late: bool = False
    event: tuple[str, int, int, int] | None = None


@dataclass(slots=True)
class _Topic:
    """Where one of the two topics stands."""

    next_offset: int
    """-1 until the first message: the log may begin anywhere."""
    runs: sequence.Runs
    event_ms: int | None = None
    arrived_ms: int = 0
    pending: deque[_Pending] = field(default_factory=deque)

    def expects(self, message: Message) -> bool:
        """False for what is stored already. Raises LedgerError for a hole: the log lost messages that we had not read."""
        if self.next_offset >= 0 and message.offset > self.next_offset:
            raise LedgerError(
                f"{message.topic} lost messages {self.next_offset} to {message.offset - 1}: it was trimmed before they were read. "
                "Lengthen the topic's retention; `wattlog stream --accept-loss` goes on without them"
            )
        return message.offset >= self.next_offset


class Counters(NamedTuple):
    """What an operator watches; monotone but for the first two."""

    open_windows: int
    open_rows: int
    duplicates: int
    late: int
    rejected: int
    rows: int


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
        self._open = OpenWindows(config.window_ms)
        self._final_before = self._stored_before = self._mark.final_end_ms // config.window_ms
        self._topics = {
            t: _Topic(
                self._mark.offsets[t], {k: run.copy() for k, run in self._mark.seen[t].items()}, arrived_ms=now_ms
            )
            for t in topics.JOINED
        }
        self._late: list[tuple[str, int, Event, WindowFacts]] = []
        self._written: dict[str, dict[int, set[tuple[Any, ...]]]] = {}
        for name, stored in (stored_keys or {}).items():
            self._remember(name, stored)
        self._changed_sources: set[tuple[str, str, int]] = set()
        self._mark_count = 0
        self._counts = dict.fromkeys(("duplicates", "late", "rejected", "rows"), 0)

    # -- what comes in ------------------------------------------------------------------------------------------------

    def ingest(self, messages: Sequence[Message], now_ms: int) -> list[Rejected]:
        """Take messages in offset order per topic; returns those that cannot be read."""
        rejected: list[Rejected] = []
        fresh: dict[str, list[Event]] = {t: [] for t in topics.JOINED}
        for message in messages:
            topic = self._topics[message.topic]
            if not topic.expects(message):
                continue  # Stored before, and read again because the commit comes last.
            topic.next_offset = message.offset + 1
            topic.arrived_ms = now_ms
            pending = _Pending(message.offset)
            topic.pending.append(pending)
            try:
                event = self._read(message, now_ms)
            except BadEvent as error:
                pending.held = True
                self._counts["rejected"] += 1
                rejected.append(Rejected(message, error))
                continue
            if self._accept(message.topic, event, pending):
                fresh[message.topic].append(event)
        self._open.add_power(fresh[topics.POWER])
        self._open.add_tokens(fresh[topics.TOKENS])
        return rejected

    def _read(self, message: Message, now_ms: int) -> Event:
        event = decode(message.headers, message.value)
        if not isinstance(event.batch, PowerBatch if message.topic == topics.POWER else TokenBatch):
            raise BadEvent("ce_type", type(event.batch).__name__, f"does not belong on {message.topic}")
        if event.batch.event_ms > now_ms + self._config.skew_ms:
            raise BadEvent(
                "t_ms",
                event.batch.event_ms,
                f"lies in the future by more than {self._config.skew_ms} ms; mend the clock",
            )
        return event

    def _accept(self, name: str, event: Event, pending: _Pending) -> bool:
        """Note the event; True if all of it goes into open windows."""
        topic, batch = self._topics[name], event.batch
        topic.event_ms = max(topic.event_ms or 0, batch.event_ms)
        pending.event = (event.source, event.epoch, event.seq, batch.event_ms)
        run = topic.runs.setdefault((event.source, event.epoch), sequence.Run())
        if not run.add(event.seq, batch.event_ms):
            self._counts["duplicates"] += 1
            return False
        if not len(batch):
            return False
        self._counts["rows"] += len(batch)
        first, pending.last = _touched(batch, self._config.window_ms)
        if first >= self._final_before:
            return True
        self._accept_late(name, event, pending, first)
        return False

    def _accept_late(self, name: str, event: Event, pending: _Pending, first: int) -> None:
        """Part of the event lies in final windows: what is in them already is dropped, what is not is a late fact."""
        ms = self._config.window_ms
        numbers = np.arange(first, pending.last + 1)
        late = [n for n in range(first, min(pending.last + 1, self._final_before))
                if not self._mark.includes(name, pending.offset, (n + 1) * ms)]  # fmt: skip
        add = "add_power" if name == topics.POWER else "add_tokens"
        getattr(self._open, add)([event], numbers[numbers >= self._final_before])
        if late:
            apart = OpenWindows(ms)
            getattr(apart, add)([event], np.array(late))
            if apart.numbers():  # Rows may lie before and after a late window, and none in it.
                pending.late = True
                self._counts["late"] += 1
                self._late.append((name, pending.offset, event, apart.facts(apart.numbers(), remove=True)))

    def published(self, rejected: Iterable[Rejected]) -> None:
        """These are on the dead-letter topic: their offsets may be committed in their turn."""
        done = {(r.message.topic, r.message.offset) for r in rejected}
        for name, topic in self._topics.items():
            for pending in topic.pending:
                if (name, pending.offset) in done:
                    pending.held = False

    # -- what goes out ------------------------------------------------------------------------------------------------

    def watermark(self, now_ms: int) -> int | None:
        """Up to where this partition is complete, or None before anything came.

        The lower of the two topics' greatest event times, less the skew. A topic that is silent for the idle timeout
        does not hold it back; when both are silent, it goes on with the clock.
        """
        seen = [t for t in self._topics.values() if t.event_ms is not None]
        if not seen:
            return None
        silent = [now_ms - t.arrived_ms >= self._config.idle_timeout_ms for t in self._topics.values()]
        if all(silent):
            newest = max(t.event_ms or 0 for t in seen)
            return newest + now_ms - max(t.arrived_ms for t in seen) - self._config.skew_ms
        active = [t for t, quiet in zip(self._topics.values(), silent, strict=True) if not quiet]
        if any(t.event_ms is None for t in active):
            return None
        return min(t.event_ms or 0 for t in active) - self._config.skew_ms

    def advance(self, now_ms: int) -> Flush | None:
        """Close what the watermark has passed. What is returned must be stored before the next call."""
        watermark = self.watermark(now_ms)
        final_before = self._final_before
        if watermark is not None:
            final_before = max(final_before, (watermark - self._config.lateness_ms) // self._config.window_ms)
        numbers = [n for n in self._open.numbers() if n < final_before]
        if not numbers and not self._late:
            return None
        tables: dict[str, Table] = {}
        if numbers:
            tables = self._final_tables(numbers)
            self._final_before = numbers[-1] + 1
            end_ms = self._final_before * self._config.window_ms
            self._mark.cuts.append(Cut(end_ms, *(self._topics[t].next_offset for t in topics.JOINED)))
            self._mark.final_end_ms = end_ms
        late, late_keys, offsets = self._late_tables()
        return Flush(tables, late, late_keys, self._final_before, offsets)

    def _final_tables(self, numbers: list[int]) -> dict[str, Table]:
        facts = self._open.facts(numbers, remove=True)
        columns = facts.for_attribution()
        attribution = attribute(columns, self.policy)
        requests, _, _ = facts.requests()
        made: dict[str, Mapping[str, Column | int | str]] = {
            "gpu_energy": {**facts.gpu_energy(), "late_id": 0},
            "token_usage": {**facts.token_usage(), "late_id": 0},
            "request_energy": with_energy(requests, attribution, columns),
            "ledger": {**attribution.ledger, "revision": 0, "final": 1},
        }
        provenance = self._provenance(versions.final(self._mark.epoch, 0))
        tables = {}
        for name, rows in made.items():
            table = conform(name, {**rows, "window_ms": self._config.window_ms, "deleted": 0, **provenance})
            # All windows before: one that a dead worker stored in part may have nothing in it this time.
            stale = [n for n in self._written.get(name, {}) if n <= numbers[-1]]
            tables[name] = self._with_tombstones(name, table, stale)
        return tables

    def _late_tables(self) -> tuple[dict[str, Table], list[LateKey], frozenset[tuple[str, int]]]:
        made: dict[str, list[Table]] = {"gpu_energy": [], "token_usage": [], "request_energy": []}
        touched: set[LateKey] = set()
        provenance = {
            **self._provenance(versions.final(self._mark.epoch, 0)),
            "window_ms": self._config.window_ms,
            "deleted": 0,
        }
        for name, offset, event, facts in self._late:
            rows = facts.gpu_energy() if name == topics.POWER else facts.token_usage()
            kind = "gpu_energy" if name == topics.POWER else "token_usage"
            made[kind].append(conform(kind, {**rows, **provenance, "late_id": offset + 1}))
            starts = np.unique(np.asarray(rows["window_start"])).tolist()
            touched |= {(start, event.cluster, event.workload) for start in starts}
            if name == topics.TOKENS:
                requests, _, _ = facts.requests()
                made["request_energy"].append(
                    conform("request_energy", {**requests, **provenance, "active_uj": 0, "idle_uj": 0})
                )
        offsets = frozenset((name, offset) for name, offset, _, _ in self._late)
        self._late = []
        return {k: concat(k, v) for k, v in made.items() if v}, sorted(touched), offsets

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
        table = self._with_tombstones(
            "ledger", conform("ledger", {**rows, **self._provenance(versions.provisional(progress))}), numbers
        )
        self._remember("ledger", keys("ledger", table))
        return table

    # -- what is stored -----------------------------------------------------------------------------------------------

    def finals_stored(self, flush: Flush) -> Table:
        """The flush's `tables` are stored. Returns the mark to store next."""
        self._stored_before = flush.final_before
        return self._settle()

    def late_stored(self, flush: Flush) -> Table:
        """The flush's late facts and their restated rows are stored. Returns the mark to store next."""
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
                if head.event is not None:
                    source, epoch, seq, event_ms = head.event
                    self._mark.seen[name].setdefault((source, epoch), sequence.Run()).add(seq, event_ms)
                    self._changed_sources.add((name, source, epoch))
            for runs in (topic.runs, self._mark.seen[name]):
                sequence.prune(runs, self._mark.final_end_ms - SOURCE_MEMORY_MS, MAX_SOURCES)
        self._mark.trim()
        return self.mark_row()

    def settle(self) -> Table | None:
        """A mark for messages that were done without a flush (duplicates, heartbeats, dead letters), if there are any."""
        before = dict(self._mark.offsets)
        row = self._settle()
        return row if self._mark.offsets != before else None

    def mark_row(self) -> Table:
        """The mark as it stands; each row made supersedes the ones before."""
        self._mark_count += 1
        return self._mark.row(self.log_id, self.log_partition, versions.final(self._mark.epoch, 0) + self._mark_count)

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
            **self._provenance(versions.final(self._mark.epoch, 0) + self._mark_count),
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
        """Memory held in open windows, in rows."""
        return self._open.rows

    def counters(self) -> Counters:
        """Figures for /metrics."""
        return Counters(len(self._open.numbers()), self._open.rows, **self._counts)

    # -- keys that a window has in the warehouse ----------------------------------------------------------------------

    def _provenance(self, version: int) -> dict[str, int | str]:
        return {"log_id": self.log_id, "log_partition": self.log_partition, "version": version}

    def _remember(self, name: str, stored: Iterable[tuple[Any, ...]]) -> None:
        at = _KEY_WINDOW[name]
        by_window = self._written.setdefault(name, {})
        for key in stored:
            by_window.setdefault(key[at] // self._config.window_ms, set()).add(key)

    def _with_tombstones(self, name: str, table: Table, numbers: Sequence[int]) -> Table:
        """The table, and a `deleted` row for each key of these windows that was stored and is not in it."""
        by_window = self._written.get(name, {})
        before = set().union(*(by_window.pop(n, set()) for n in numbers))
        gone = sorted(before - set(keys(name, table))) if before else []
        if not gone:
            return table
        version = int(np.asarray(table["version"]).max(initial=0)) or versions.final(self._mark.epoch, 0)
        extra = tombstones(name, gone, **{**self._provenance(version), "window_ms": self._config.window_ms})
        return concat(name, [table, extra])


_KEY_WINDOW = {"gpu_energy": 4, "token_usage": 4, "request_energy": 3, "ledger": 5}


def _touched(batch: PowerBatch | TokenBatch | Any, window_ms: int) -> tuple[int, int]:
    """(first, last) window number that a batch's rows touch."""
    if isinstance(batch, PowerBatch):
        return int(batch.t0_ms.min()) // window_ms, (int(batch.t1_ms.max()) - 1) // window_ms
    last = np.maximum(batch.t_end_ms - 1, batch.t_start_ms).max()
    return int(batch.t_start_ms.min()) // window_ms, int(last) // window_ms
