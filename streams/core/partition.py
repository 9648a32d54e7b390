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
from contracts.errors import BadEvent
from contracts.events import Event, UsageBatch
from contracts.rows import Table
from contracts.units import MS_PER_HOUR
from streams.core import decoding, row_versions
from streams.core.attribution.policy import Policy
from streams.core.cardinality import CardinalityReport, report_cardinality
from streams.core.checkpoint import Checkpoint
from streams.core.decoding import LogMessage, PartitionConfig, RejectedMessage
from streams.core.late_facts import LateFacts, LateKey
from streams.core.progress import PendingMessage, Progress, watermark
from streams.core.stored_keys import StoredKeys, touched_hours
from streams.core.window_tables import final_tables, provisional_table
from streams.core.windows import OpenWindows

NO_BOUND = 2**62


@dataclass(frozen=True)
class ClosedWindows:
    """What must be stored, in this order: `tables`, the hours, the mark; then late facts, restated rows, the mark."""

    tables: dict[str, Table]
    late: dict[str, Table]
    late_keys: list[LateKey]
    final_before: int
    late_offsets: frozenset[tuple[str, int]]
    early: int = 0
    """Windows that were closed before their lateness had passed."""


class PartitionCounters(NamedTuple):
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
        config: PartitionConfig,
        policy: Policy,
        *,
        epoch: int = 1,
        mark: Checkpoint | None = None,
        stored_keys: Mapping[str, Iterable[tuple[Any, ...]]] | None = None,
        now_ms: int = 0,
    ) -> None:
        self.log_id, self.log_partition = log_id, log_partition
        self._config, self.policy = config, policy
        mark = mark or Checkpoint()
        mark.epoch = self.epoch = epoch
        self._open = self._windows()
        self._final_before = mark.final_end_ms // config.window_ms
        self._progress = Progress(mark, log_id, log_partition, self._final_before, now_ms)
        self._late = LateFacts()
        self._stored = StoredKeys(config.window_ms, stored_keys or {})
        self._late_count = self._rejected_count = self._rows_count = 0

    # -- what comes in ------------------------------------------------------------------------------------------------

    def ingest(self, messages: Sequence[LogMessage], now_ms: int) -> list[RejectedMessage]:
        """Take messages in offset order per topic; returns those that cannot be read."""
        rejected: list[RejectedMessage] = []
        for name in topics.JOINED:
            rejected += self._ingest_topic(name, [m for m in messages if m.topic == name], now_ms)
        return rejected

    def next_offset(self, topic: str) -> int:
        """The offset that `ingest` expects next; -1 before the first message of a log that may begin anywhere."""
        return self._progress.topics[topic].next_offset

    def skip(self, topic: str, offset: int) -> None:
        """The log holds nothing between the offset expected next and this one (`core.holes` says how one knows)."""
        self._progress.topics[topic].next_offset = offset

    def _ingest_topic(self, name: str, messages: Sequence[LogMessage], now_ms: int) -> list[RejectedMessage]:
        topic = self._progress.topics[name]
        # What is not expected was stored before, and is read again because the commit comes last.
        fresh = [(m, topic.take(m, now_ms)) for m in messages if topic.expects(m)]
        step = decoding.read([m for m, _ in fresh], now_ms, self._config, self._progress.judged[name])
        rejected: list[RejectedMessage] = []
        whole: list[int] = []
        for i, (message, pending) in enumerate(fresh):
            event = step.events[i]
            if isinstance(event, BadEvent):
                self._progress.refused(name, pending)
                self._rejected_count += 1
                rejected.append(RejectedMessage(message, event))
            elif self._accept(name, event, step.event_ms[i], step.first[i], step.last[i], pending):
                whole.append(i)
        events = [e for i in whole if isinstance(e := step.events[i], Event)]
        self._open.add(events, step.columns if whole == step.full else decoding.columns_of([e.batch for e in events]))
        return rejected

    def _accept(self, name: str, event: Event, event_ms: int, first: int, last: int, pending: PendingMessage) -> bool:
        """Note the event; True if all of it goes into open windows."""
        if not self._progress.heard(name, pending, event, event_ms):
            return False
        pending.last = last
        rows = len(event.batch)
        self._rows_count += rows
        if first >= self._final_before or not rows:
            return rows > 0
        self._accept_late(name, event, pending)
        return False

    def _windows(self) -> OpenWindows:
        return OpenWindows(self._config.window_ms, keep_requests=self._config.keep_requests)

    def _accept_late(self, name: str, event: Event, pending: PendingMessage) -> None:
        """Part of the event may lie in final windows: what is in them already is dropped, the rest is a late fact."""
        ms, batch = self._config.window_ms, event.batch
        assert not isinstance(batch, UsageBatch)
        numbers = decoding.touched(batch, ms)
        passed = numbers < self._final_before
        mark = self._progress.mark
        late = [n for n in numbers[passed].tolist() if not mark.includes(name, pending.offset, (n + 1) * ms)]
        columns = decoding.columns_of([batch])
        self._open.add([event], columns, numbers[~passed])
        if late:
            apart = self._windows()
            apart.add([event], columns, np.array(late))
            if apart.numbers():  # A request may run through a window and do nothing in it.
                pending.late = True
                self._late_count += 1
                self._late.add(name, pending.offset, event, apart.facts(apart.numbers(), remove=True))

    def published(self, rejected: Iterable[RejectedMessage]) -> None:
        """These are on the dead-letter topic: their offsets may be committed in their turn."""
        self._progress.published({(r.message.topic, r.message.offset) for r in rejected})

    # -- what goes out ------------------------------------------------------------------------------------------------

    def watermark(self, now_ms: int) -> int | None:
        """Up to where this partition is complete, in event time: see `progress.watermark`."""
        return watermark(self._progress.topics.values(), now_ms, self._config)

    @property
    def heard_ms(self) -> int:
        """The greatest event times of both topics, added up: how fast that grows is how fast they are read."""
        return sum(topic.event_ms or 0 for topic in self._progress.topics.values())

    def waited(self, ms: int) -> None:
        """The reader stood still for so long, and not for want of messages: that was no silence of the topics."""
        for topic in self._progress.topics.values():
            topic.arrived_ms += ms

    def behind(self, now_ms: int) -> bool:
        """Whether windows are open that the watermark has passed: `advance` would close them."""
        before = self._due_before(now_ms)
        return any(number < before for number in self._open.numbers())

    def _due_before(self, now_ms: int) -> int:
        """Windows numbered below this are final, or should be."""
        watermark_ms = self.watermark(now_ms)
        if watermark_ms is None:
            return self._final_before
        return max(self._final_before, (watermark_ms - self._config.lateness_ms) // self._config.window_ms)

    def advance(
        self, now_ms: int, *, at_most_rows: int = NO_BOUND, close_rows: int = NO_BOUND, late: bool = True
    ) -> ClosedWindows | None:
        """Close what the watermark has passed. What is returned must be stored before the next call.

        With `at_most_rows`, the oldest windows are closed early until no more are held: what still comes for them is
        late, so that their final rows are the same but for the revision. `close_rows` bounds the flush, one window and
        one late message at least: call again for the rest. Late facts wait where `late` is false.
        """
        due_before = self._due_before(now_ms)
        numbers = self._to_close(due_before, self.open_rows - at_most_rows, close_rows)
        late = late and bool(self._late)
        if not numbers and not late:
            return None
        tables = self._close(numbers) if numbers else {}
        early = sum(n >= due_before for n in numbers)
        provenance = self._provenance(row_versions.final(self.epoch, 0))
        rows, keys, offsets = self._late.take(close_rows, **provenance) if late else ({}, [], frozenset())
        return ClosedWindows(tables, rows, keys, self._final_before, offsets, early)

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

    def _close(self, numbers: list[int]) -> dict[str, Table]:
        facts = self._open.facts(numbers, remove=True)
        provenance = self._provenance(row_versions.final(self.epoch, 0))
        tables = final_tables(facts, self.policy, self._stored, numbers[-1], **provenance)
        self._final_before = numbers[-1] + 1
        self._progress.closed(self._final_before * self._config.window_ms)
        return tables

    def provisional(self, now_ms: int) -> Table | None:
        """Ledger rows of windows that have ended but may still get more, where they changed since the last call. Those
        that `advance` closes next are not shown before."""
        watermark_ms = self.watermark(now_ms)
        if watermark_ms is None:
            return None
        due_before = self._due_before(now_ms)
        ended = self._open.changed((watermark_ms + self._config.skew_ms) // self._config.window_ms)
        numbers = [number for number in ended if number >= due_before]
        if not numbers:
            return None
        facts = self._open.facts(numbers, remove=False)
        provenance = self._provenance(row_versions.provisional(self._progress.read))
        return provisional_table(facts, self.policy, self._stored, numbers, **provenance)

    # -- what is stored -----------------------------------------------------------------------------------------------

    def finals_stored(self, flush: ClosedWindows) -> Table:
        """The flush's `tables` are stored. Returns the mark to store next."""
        hours, _, _ = touched_hours(flush.tables["ledger"])
        return self._progress.finals_stored(flush.final_before, hours)

    def hours_refreshed(self) -> None:
        """`ledger_hour` has all that the ledger has of this partition."""
        self._progress.mark.hours.clear()

    def late_stored(self, flush: ClosedWindows) -> Table:
        """The flush's late facts and their restated rows are stored. Returns the mark to store next."""
        hours = {start // MS_PER_HOUR * MS_PER_HOUR for start, _, _ in flush.late_keys}
        return self._progress.late_stored(flush.late_offsets, hours)

    def settle(self) -> Table | None:
        """A mark for messages that were done without a flush (duplicates, heartbeats, dead letters), if any."""
        return self.mark_row() if self._progress.settle() else None

    def mark_row(self) -> Table:
        """The mark as it stands; each row made supersedes the ones before."""
        return self._progress.mark_row()

    def committable(self) -> dict[str, int]:
        """Per topic, the offset that may be committed (the next to read), once the mark is stored."""
        return {topic: offset for topic, offset in self._progress.mark.offsets.items() if offset >= 0}

    def sources(self) -> Table | None:
        """Rows of `sources` that changed since the last call."""
        return self._progress.sources()

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

    def report_cardinality(self) -> CardinalityReport | None:
        """What there is most of among these. Looks at every key: for a log line, not for every step."""
        return report_cardinality(self._open.gpus, self._open.payers)

    @property
    def pending(self) -> int:
        """Messages that are read and may not be committed yet."""
        return self._progress.pending

    def counters(self) -> PartitionCounters:
        """Figures for /metrics."""
        return PartitionCounters(
            len(self._open.numbers()), self.open_rows, self._progress.duplicates, self._late_count,
            self._rejected_count, self._rows_count, self._progress.forgotten,
        )  # fmt: skip

    def _provenance(self, version: int) -> dict[str, int | str]:
        return {"log_id": self.log_id, "log_partition": self.log_partition, "version": version}
