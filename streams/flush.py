"""Flush: store what a worker's partitions have closed, all partitions together.

An insert costs some milliseconds however few its rows, so a flush makes one per table (docs/adr/0010). The order is
the crash rule: facts, ledger, checkpoints; then late facts, what they restate, checkpoints. A worker that dies anywhere
in it leaves what its successor replaces. `ledger_hour` is recomputed when there is time: a checkpoint names the hours
that it may lack, so that the next owner recomputes them if this one dies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from contracts.errors import Fenced
from contracts.rows import Table, concat
from contracts.units import rfc3339
from streams import metrics
from streams.assignment import AssignedPartition
from streams.core.late_facts import LateKey
from streams.core.partition import ClosedWindows, Partition
from streams.core.stored_keys import touched_hours
from streams.retrying_sink import Ownership, RetryingSink, StillOwned
from warehouse.sink.fence import Fence

log = logging.getLogger(__name__)

CHECKPOINT_EVERY_MS = 1_000
"""Interval of checkpoints for messages that need no flush (heartbeats, duplicates)."""
HOURS_EVERY_MS = 5_000
"""How long `ledger_hour` may lack rows of the ledger while messages keep arriving."""
NOTE_EVERY_MS = 60_000
"""Interval of log lines on old windows."""


@dataclass
class _PartitionFlush:
    """The part of a flush that belongs to one partition."""

    assigned: AssignedPartition
    closed: ClosedWindows | None
    provisional: Table | None
    checkpoint_due: bool
    """True if a checkpoint is due although nothing was closed."""
    sources: list[Table] = field(default_factory=list)
    checkpoint: Table | None = None
    """The newest checkpoint row that is not known to be stored. A second attempt stores it again, or a newer one."""

    @property
    def finals(self) -> dict[str, Table]:
        return self.closed.tables if self.closed else {}


class Flusher:
    """Stores what partitions close. `clock` gives epoch milliseconds.

    Windows that are restated longer than `max_age_ms` after their time are counted and logged.
    `advance` closes windows of a partition; `on_sources` is called with rows of `sources` that are about to be stored.
    """

    def __init__(
        self,
        sink: RetryingSink,
        advance: Callable[[Partition, int], ClosedWindows | None],
        on_sources: Callable[[int, Table], None],
        log_id: str,
        clock: Callable[[], int],
        max_age_ms: int,
    ) -> None:
        self._max_age_ms, self._next_note_ms = max_age_ms, 0
        self._sink, self._advance, self._on_sources = sink, advance, on_sources
        self._log_id, self._clock = log_id, clock
        self._hours: set[int] = set()
        self._clusters: set[str] = set()
        self._workloads: set[str] = set()
        self._hours_ms = 0
        self.stored_ms = clock()
        """When windows were last stored, in epoch milliseconds."""

    @property
    def hours_due(self) -> bool:
        """True if `ledger_hour` lacks rows that are stored. Offsets are committed only when it does not."""
        return bool(self._hours)

    def clear_hours(self) -> None:
        """Forget the hours that are due: they are recomputed, or a rebalance left them to the next owners."""
        self._hours, self._clusters, self._workloads = set(), set(), set()

    async def flush(
        self,
        owned: Mapping[int, AssignedPartition],
        epoch: int,
        now_ms: int,
        still_owned: StillOwned,
        *,
        show: bool,
        busy: bool,
    ) -> dict[int, Fenced]:
        """Store what these partitions close; with `show`, their provisional windows too.

        While `busy`, hours wait for HOURS_EVERY_MS. Returns the partitions that another worker has claimed, with the
        refusal: nothing of them is stored. Raises OwnershipLost if a rebalance took the partitions away while the
        warehouse was unreachable.
        """
        parts = {number: self._close(assigned, now_ms, show) for number, assigned in owned.items()}
        lost: dict[int, Fenced] = {}
        while parts:
            ownership = Ownership(Fence(self._log_id, tuple(sorted(parts)), epoch), still_owned)
            try:  # In the order of the crash rule. After Fenced, what was stored before is stored once more.
                if tables := _window_tables(parts.values()):
                    await self._sink.write(tables.items(), ownership)
                await self._store_checkpoints(parts.values(), ownership)
                for part in parts.values():
                    if part.closed and part.closed.late_tables:
                        await self._store_late(part, part.closed, ownership)
                if self._hours and (not busy or now_ms - self._hours_ms >= HOURS_EVERY_MS):
                    await self._refresh_hours(parts, still_owned, now_ms)
                break
            except Fenced:
                for number in await self._sink.claimed_by_others(ownership):
                    parts.pop(number)
                    lost[number] = Fenced(self._log_id, (number,), epoch)
        return lost

    def _close(self, assigned: AssignedPartition, now_ms: int, show: bool) -> _PartitionFlush:
        partition, quiet_ms = assigned.partition, self._sink.outage.exclude_outage(now_ms)
        closed = self._advance(partition, quiet_ms)
        checkpoint_due = closed is None and now_ms - assigned.checkpointed_ms >= CHECKPOINT_EVERY_MS
        return _PartitionFlush(assigned, closed, partition.provisional(quiet_ms) if show else None, checkpoint_due)

    async def _store_checkpoints(self, parts: Collection[_PartitionFlush], ownership: Ownership) -> None:
        """Advance the checkpoints over the windows that were stored, and store them."""
        final_ledgers = []
        for part in parts:
            if part.closed and part.finals:
                final_ledgers.append(part.finals["ledger"])
                self._note_hours(part.finals["ledger"])
                part.checkpoint = part.assigned.partition.finals_stored(part.closed)
        for part in parts:
            if part.checkpoint_due and part.checkpoint is None:
                part.checkpoint = part.assigned.partition.progress.checkpoint_if_moved()
        await self._write_checkpoints(parts, ownership)
        now_ms = self._clock()
        for part in parts:
            if part.closed or part.checkpoint_due:
                part.assigned.checkpointed_ms = now_ms
        if final_ledgers:
            self.stored_ms = now_ms
            metrics.WINDOWS.inc(sum(len(np.unique(ledger["window_start"])) for ledger in final_ledgers))

    async def _write_checkpoints(self, parts: Iterable[_PartitionFlush], ownership: Ownership) -> None:
        """Store sources, then checkpoints: the next owner starts at the checkpoint and never reads these events."""
        due = [(part, part.checkpoint) for part in parts if part.checkpoint is not None]
        for part, _ in due:
            partition = part.assigned.partition
            if (rows := partition.progress.take_source_rows()) is not None:
                part.sources.append(rows)
                self._on_sources(partition.log_partition, rows)
        source_rows = [rows for part, _ in due for rows in part.sources]
        if source_rows:
            sources = concat("sources", source_rows)
            await self._sink.write([("sources", sources)], ownership)
            await self._sink.mark_simulated(sources["source"], ownership.still_owned)
        if due:
            await self._sink.write([("marks", concat("marks", [checkpoint for _, checkpoint in due]))], ownership)

    async def _store_late(self, part: _PartitionFlush, closed: ClosedWindows, ownership: Ownership) -> None:
        """Store late facts, then the restated rows of their windows, then the checkpoint that passes their messages."""
        partition = part.assigned.partition
        await self._sink.write(closed.late_tables.items(), ownership)
        async for tables in self._sink.restated(partition, closed, ownership.still_owned):
            await self._sink.write(tables.items(), ownership)
            self._note_hours(tables["ledger"])
        part.checkpoint = partition.late_stored(closed)
        await self._write_checkpoints([part], ownership)
        self.stored_ms = self._clock()
        metrics.RESTATED.inc(len(closed.late_keys))
        self._note_old_windows(closed.late_keys)

    def _note_old_windows(self, keys: Collection[LateKey]) -> None:
        """Count windows that were restated long after their time, and log one of them a minute at most."""
        now_ms = self._clock()
        old = [key for key in keys if key[0] < now_ms - self._max_age_ms]
        metrics.OLD_RESTATED.inc(len(old))
        if old and now_ms >= self._next_note_ms:
            start_ms, cluster, workload = min(old)
            log.warning(
                "%d windows are restated longer than max_age_ms after their time, the first %s of %s/%s: a replay, or "
                "a sender that changes old bills?", len(old), rfc3339(start_ms), cluster, workload,
            )  # fmt: skip
            self._next_note_ms = now_ms + NOTE_EVERY_MS

    def _note_hours(self, ledger: Table) -> None:
        hours, clusters, workloads = touched_hours(ledger)
        self._hours.update(hours)
        self._clusters.update(clusters)
        self._workloads.update(workloads)

    async def _refresh_hours(self, parts: Mapping[int, _PartitionFlush], still_owned: StillOwned, now_ms: int) -> None:
        await self._sink.refresh_hours(self._hours, self._clusters, self._workloads, still_owned)
        self.clear_hours()
        self._hours_ms = now_ms
        for part in parts.values():
            part.assigned.partition.progress.checkpoint.hours.clear()


def _window_tables(parts: Collection[_PartitionFlush]) -> dict[str, Table]:
    """Return the rows of all closed windows by table, facts first; provisional rows go with the ledger's."""
    finals = [p.finals for p in parts if p.finals]
    tables = {name: concat(name, [f[name] for f in finals]) for name in (finals[0] if finals else ())}
    provisional = [p.provisional for p in parts if p.provisional]
    if provisional:
        tables["ledger"] = concat("ledger", [*([tables["ledger"]] if tables else []), *provisional])
    return tables
