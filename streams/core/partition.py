"""State machine of one log partition: messages in; rows to store, checkpoints and rejected messages out.

It has no I/O and no clock. The shell passes messages and the time, stores what `advance` returns, and reports back.
An offset may be committed only when every window that its message touches is final and stored, in offset order:
`progress` decides that (the whole rule of commits is in `streams.assignment`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from contracts import topics
from contracts.errors import BadEvent
from contracts.events import Event, UsageBatch
from contracts.rows import Table
from contracts.units import MS_PER_HOUR
from streams.core import decoding, row_versions
from streams.core.attribution.policy import Policy
from streams.core.checkpoint import Checkpoint
from streams.core.decoding import LogMessage, PartitionConfig, RejectedMessage
from streams.core.late_facts import LateFacts, LateKey
from streams.core.number_claims import NumberClaims
from streams.core.progress import MessagePlace, Progress
from streams.core.stored_keys import StoredKeys, touched_hours
from streams.core.topic_progress import PendingMessage, watermark
from streams.core.window_tables import final_tables, provisional_table
from streams.core.windows import OpenWindows

NO_BOUND = 2**62


@dataclass(frozen=True)
class ClosedWindows:
    """Rows for a flush: those of windows that have just closed, and late facts of windows that closed before.

    Either part may be empty. Store them in this order: `tables`, checkpoint; then `late_tables`, restated rows,
    checkpoint.
    """

    tables: dict[str, Table]
    """Final rows by table; empty if only late facts are due."""
    late_tables: dict[str, Table]
    late_keys: list[LateKey]
    """Windows to restate once `late_tables` are stored."""
    final_before: int
    """Windows numbered below this are final."""
    late_places: frozenset[MessagePlace]
    closed_early: int = 0
    """Number of windows closed before their lateness had passed."""


class PartitionCounters(NamedTuple):
    """Figures for /metrics: two levels, then monotone counts since the partition was assigned."""

    open_windows: int
    open_rows: int
    duplicates: int
    late: int
    rejected: int
    rows: int
    forgotten: int


class Partition:
    """A partition from its checkpoint on. `progress`, `windows` and `late_facts` are its parts, for reading.

    `stored_keys` are the keys of rows that a previous owner stored beyond its last checkpoint, by table. A final flush
    deletes those that it does not write again.
    """

    def __init__(
        self,
        log_id: str,
        log_partition: int,
        config: PartitionConfig,
        policy: Policy,
        *,
        epoch: int = 1,
        checkpoint: Checkpoint | None = None,
        stored_keys: Mapping[str, Iterable[tuple[Any, ...]]] | None = None,
        now_ms: int = 0,
    ) -> None:
        self.log_id, self.log_partition = log_id, log_partition
        self._config, self.policy = replace(config, partition=log_partition), policy
        checkpoint = checkpoint or Checkpoint()
        checkpoint.epoch = self.epoch = epoch
        self.windows = self._new_windows()
        self._final_before = checkpoint.final_end_ms // config.window_ms
        self.progress = Progress(checkpoint, log_id, log_partition, self._final_before, now_ms)
        self.late_facts, self.claims = LateFacts(), NumberClaims()
        self._stored_keys = StoredKeys(config.window_ms, stored_keys or {})
        self._late_count = self._rejected_count = self._rows_count = 0

    # -- ingest -------------------------------------------------------------------------------------------------------

    def ingest(self, messages: Sequence[LogMessage], now_ms: int) -> list[RejectedMessage]:
        """Take in messages, in offset order per topic. Return those that are dead letters."""
        rejected: list[RejectedMessage] = []
        for name in topics.JOINED:
            rejected += self._ingest_topic(name, [m for m in messages if m.topic == name], now_ms)
        return rejected

    def _ingest_topic(self, name: str, messages: Sequence[LogMessage], now_ms: int) -> list[RejectedMessage]:
        topic = self.progress.topics[name]
        # Messages below the expected offset are stored: they are read again because the commit is the last step.
        fresh = [(m, topic.read(m, now_ms)) for m in messages if topic.expects(m)]
        decoded = decoding.decode_messages(
            [m for m, _ in fresh], now_ms, self._config, self.progress.prior_verdicts[name]
        )
        rejected: list[RejectedMessage] = []
        on_time: list[int] = []
        for i, (message, pending) in enumerate(fresh):
            event = decoded.events[i]
            if isinstance(event, Event) and (verdict := topic.claim_number(event, message.value)) is not True:
                self.claims.note(name, event, now_ms, compared=verdict is not False)
                if verdict is not False:
                    self.progress.note_contested(pending, event, decoded.event_ms[i])
                    event = decoded.events[i] = verdict
            if isinstance(event, BadEvent):
                self.progress.note_rejected(name, pending)
                self._rejected_count += 1
                rejected.append(RejectedMessage(message, event))
            elif self._accept(name, event, decoded.event_ms[i], decoded.first[i], decoded.last[i], pending):
                on_time.append(i)
        events = [e for i in on_time if isinstance(e := decoded.events[i], Event)]
        all_on_time = on_time == decoded.full
        self.windows.add(events, decoded.columns if all_on_time else decoding.columns_of([e.batch for e in events]))
        return rejected

    def _accept(self, name: str, event: Event, event_ms: int, first: int, last: int, pending: PendingMessage) -> bool:
        """Note the event. Return True if all of its rows belong to open windows."""
        if not self.progress.note_event(name, pending, event, event_ms):
            return False
        pending.last_window = last
        rows = len(event.batch)
        self._rows_count += rows
        if first >= self._final_before or not rows:
            return rows > 0
        self._accept_late(name, event, pending)
        return False

    def _new_windows(self) -> OpenWindows:
        return OpenWindows(
            self._config.window_ms, keep_requests=self._config.keep_requests, dimensions=self._config.dimensions
        )

    def _accept_late(self, name: str, event: Event, pending: PendingMessage) -> None:
        """Add an event of which some rows belong to final windows.

        Rows that those windows include already are dropped; the others of final windows become late facts. The module
        `late_facts` has their further way: `advance` returns them, and `Flusher._store_late` stores them.
        """
        ms, batch = self._config.window_ms, event.batch
        assert not isinstance(batch, UsageBatch)
        numbers = decoding.touched_windows(batch, ms)
        passed = numbers < self._final_before
        checkpoint = self.progress.checkpoint
        late = [n for n in numbers[passed].tolist() if not checkpoint.includes(name, pending.offset, (n + 1) * ms)]
        columns = decoding.columns_of([batch])
        self.windows.add([event], columns, numbers[~passed])
        if late:
            apart = self._new_windows()
            apart.add([event], columns, np.array(late))
            if apart.numbers():  # A request may run through a window without any work in it.
                pending.late = True
                self._late_count += 1
                self.late_facts.add(name, pending.offset, event, apart.snapshot(apart.numbers(), remove=True))

    # -- close --------------------------------------------------------------------------------------------------------

    def watermark(self, now_ms: int) -> int | None:
        """Return the event time up to which this partition is complete, or None: see `topic_progress.watermark`."""
        return watermark(self.progress.topics.values(), now_ms, self._config)

    def overdue(self, now_ms: int) -> bool:
        """Return True if `advance` would close a window because of the watermark."""
        before = self._due_before(now_ms)
        return any(number < before for number in self.windows.numbers())

    def _due_before(self, now_ms: int) -> int:
        """Return the number below which windows are final, or due to be."""
        watermark_ms = self.watermark(now_ms)
        if watermark_ms is None:
            return self._final_before
        return max(self._final_before, (watermark_ms - self._config.lateness_ms) // self._config.window_ms)

    def advance(
        self, now_ms: int, *, at_most_rows: int = NO_BOUND, close_rows: int = NO_BOUND, late: bool = True
    ) -> ClosedWindows | None:
        """Close the windows that the watermark has passed. Store what is returned before the next call.

        With `at_most_rows`, the oldest windows are closed early until no more rows are open. Later events for them are
        late facts, so their final rows differ in nothing but the revision. `close_rows` bounds one flush, to one window
        and one late message at least: call again for the remaining ones. Late facts wait where `late` is False.
        """
        due_before = self._due_before(now_ms)
        numbers = self._to_close(due_before, self.open_rows - at_most_rows, close_rows)
        late = late and bool(self.late_facts)
        if not numbers and not late:
            return None
        tables = self._close(numbers) if numbers else {}
        early = sum(n >= due_before for n in numbers)
        provenance = self._provenance(row_versions.final(self.epoch, 0))
        rows, keys, places = self.late_facts.take(close_rows, **provenance) if late else ({}, [], frozenset())
        return ClosedWindows(tables, rows, keys, self._final_before, places, early)

    def _to_close(self, before: int, excess: int, max_rows: int) -> list[int]:
        """Return open windows numbered below `before`, and the oldest others while there is an excess of rows.

        They hold `max_rows` at most, or are a single window.
        """
        numbers: list[int] = []
        for number in self.windows.numbers():
            if number >= before and excess <= 0:
                break
            rows = self.windows.rows_in(number)
            if numbers and rows > max_rows:
                break
            numbers.append(number)
            excess, max_rows = excess - rows, max_rows - rows
        return numbers

    def _close(self, numbers: list[int]) -> dict[str, Table]:
        snapshot = self.windows.snapshot(numbers, remove=True)
        provenance = self._provenance(row_versions.final(self.epoch, 0))
        tables = final_tables(snapshot, self.policy, self._stored_keys, numbers[-1], **provenance)
        self._final_before = numbers[-1] + 1
        self.progress.note_final(self._final_before * self._config.window_ms)
        return tables

    def provisional(self, now_ms: int) -> Table | None:
        """Return ledger rows of ended windows that are still open and changed since the last call, or None.

        Windows that `advance` closes next are left out.
        """
        watermark_ms = self.watermark(now_ms)
        if watermark_ms is None:
            return None
        due_before = self._due_before(now_ms)
        ended = self.windows.changed((watermark_ms + self._config.skew_ms) // self._config.window_ms)
        numbers = [number for number in ended if number >= due_before]
        if not numbers:
            return None
        snapshot = self.windows.snapshot(numbers, remove=False)
        provenance = self._provenance(row_versions.provisional(self.progress.offsets_read))
        return provisional_table(snapshot, self.policy, self._stored_keys, numbers, **provenance)

    # -- store --------------------------------------------------------------------------------------------------------

    def finals_stored(self, closed: ClosedWindows) -> Table:
        """Note that `closed.tables` are stored. Return the checkpoint row to store next."""
        hours, _, _ = touched_hours(closed.tables["ledger"])
        return self.progress.finals_stored(closed.final_before, hours)

    def late_stored(self, closed: ClosedWindows) -> Table:
        """Note that late facts and their restated rows are stored. Return the checkpoint row to store next."""
        hours = {start // MS_PER_HOUR * MS_PER_HOUR for start, _, _ in closed.late_keys}
        return self.progress.late_stored(closed.late_places, hours)

    @property
    def open_rows(self) -> int:
        """Memory use, in rows: open windows, keys stored of them, late facts, and messages that are not committed."""
        return self.windows.rows + self._stored_keys.rows + self.late_facts.rows + self.progress.pending

    @property
    def has_unstored(self) -> bool:
        """True if anything is left to store: only then does waiting for a flush free memory."""
        return bool(self.windows.numbers() or self.late_facts or self.progress.pending)

    def counters(self) -> PartitionCounters:
        """Return the figures for /metrics."""
        return PartitionCounters(
            open_windows=len(self.windows.numbers()),
            open_rows=self.open_rows,
            duplicates=self.progress.duplicates,
            late=self._late_count,
            rejected=self._rejected_count,
            rows=self._rows_count,
            forgotten=self.progress.forgotten,
        )

    def _provenance(self, version: int) -> dict[str, int | str]:
        return {"log_id": self.log_id, "log_partition": self.log_partition, "version": version}
