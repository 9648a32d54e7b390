"""The out half of a worker: what its partitions close is stored a round at a time, all partitions together.

An insert costs some milliseconds however few its rows, so a round makes one a table (docs/adr/0010). The order is the
crash rule's: facts, ledger, marks; then late facts, what they restate, marks. `ledger_hour` is computed anew when
there is time: a mark says which hours it may lack, so that the next owner does it if this one dies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from contracts.errors import Fenced
from contracts.rows import Table, concat
from streams import metrics
from streams.assignment import AssignedPartition
from streams.core.partition import ClosedWindows, Partition
from streams.core.stored_keys import touched_hours
from streams.retrying_sink import Ownership, RetryingSink
from warehouse.sink.fence import Fence

CHECKPOINT_EVERY_MS = 1_000
"""How often offsets that needed no flush (heartbeats, duplicates) are marked."""
HOURS_EVERY_MS = 5_000
"""How long `ledger_hour` may lack what the ledger has while messages keep coming; it is at most as old as that."""


Advance = Callable[[Partition, int], ClosedWindows | None]


@dataclass
class _Part:
    """What one partition has to store in this round."""

    owned: AssignedPartition
    flush: ClosedWindows | None
    shown: Table | None
    """Provisional rows."""
    due: bool
    """A mark is due although nothing was closed."""
    sources: list[Table] = field(default_factory=list)
    mark: Table | None = None
    """The newest that is not known to be stored: what it settles is not settled again."""

    @property
    def finals(self) -> dict[str, Table]:
        return self.flush.tables if self.flush else {}


class Flusher:
    """See the module. `advance` closes windows of a partition, `heard` is told which rows of `sources` changed, `clock`
    gives epoch milliseconds."""

    def __init__(
        self,
        store: RetryingSink,
        advance: Advance,
        heard: Callable[[int, Table], None],
        log_id: str,
        clock: Callable[[], int],
    ) -> None:
        self._store, self._advance, self._heard, self._log_id, self._clock = store, advance, heard, log_id, clock
        self._hours: set[int] = set()
        self._clusters: set[str] = set()
        self._workloads: set[str] = set()
        self._hours_ms = 0
        self.stored_ms = clock()
        """When windows were last stored."""

    @property
    def hours_due(self) -> bool:
        """Whether `ledger_hour` lacks anything that is stored: offsets are acknowledged when it does not."""
        return bool(self._hours)

    def forget(self) -> None:
        """All partitions were given up: their next owners do what is left."""
        self._hours, self._clusters, self._workloads = set(), set(), set()

    async def run(
        self,
        owned: Mapping[int, AssignedPartition],
        epoch: int,
        now_ms: int,
        held: Callable[[], bool],
        *,
        show: bool,
        busy: bool,
    ) -> dict[int, Fenced]:
        """Store what these partitions close. Returns those that another worker has claimed, with the store's refusal:
        nothing of theirs is stored. With `show`, provisional windows too; while `busy`, hours wait for HOURS_EVERY_MS.

        Raises LetGo when they were given up here and the warehouse is away.
        """
        parts = {number: self._part(o, now_ms, show) for number, o in owned.items()}
        lost: dict[int, Fenced] = {}
        while parts:
            hold = Ownership(Fence(self._log_id, tuple(sorted(parts)), epoch), held)
            try:
                await self._store_all(parts, hold)
                if self._hours and (not busy or now_ms - self._hours_ms >= HOURS_EVERY_MS):
                    await self._refresh_hours(parts, hold, now_ms)
                break
            except Fenced:
                for number in await self._store.claimed_above(hold):
                    parts.pop(number)
                    lost[number] = Fenced(self._log_id, (number,), epoch)
        return lost

    def _part(self, owned: AssignedPartition, now_ms: int, show: bool) -> _Part:
        state, quiet_ms = owned.state, self._store.outage.without(now_ms)
        flush = self._advance(state, quiet_ms)
        due = flush is None and now_ms - owned.settled_ms >= CHECKPOINT_EVERY_MS
        return _Part(owned, flush, state.provisional(quiet_ms) if show else None, due)

    async def _store_all(self, parts: Mapping[int, _Part], hold: Ownership) -> None:
        """May be begun again, with fewer parts: what was stored already is stored once more."""
        closed = [p for p in parts.values() if p.finals]
        tables = {name: concat(name, [p.finals[name] for p in closed]) for name in (closed[0].finals if closed else ())}
        shown = [p.shown for p in parts.values() if p.shown]
        if shown:
            tables["ledger"] = concat("ledger", [*([tables["ledger"]] if tables else []), *shown])
        if tables:
            await self._store.write(tables.items(), hold)
        await self._mark(parts.values(), closed, hold)
        for part in parts.values():
            if part.flush and part.flush.late:
                await self._store_late(part, part.flush, hold)

    async def _mark(self, parts: Collection[_Part], closed: list[_Part], hold: Ownership) -> None:
        for part in closed:
            assert part.flush is not None
            self._touch(part.finals["ledger"])
            part.mark = part.owned.state.finals_stored(part.flush)
        for part in parts:
            if part.due and part.mark is None:
                part.mark = part.owned.state.settle()
        await self._write_marks(parts, hold)
        now_ms = self._clock()
        for part in parts:
            if part.flush or part.due:
                part.owned.settled_ms = now_ms
        if closed:
            self.stored_ms = now_ms
            metrics.WINDOWS.inc(sum(len(np.unique(p.finals["ledger"]["window_start"])) for p in closed))

    async def _write_marks(self, parts: Iterable[_Part], hold: Ownership) -> None:
        """Sources first: who takes over goes on from the mark, and does not see again what they were counted from."""
        marked = [(part, part.mark) for part in parts if part.mark is not None]
        for part, _ in marked:
            if (rows := part.owned.state.sources()) is not None:
                part.sources.append(rows)
                self._heard(part.owned.state.log_partition, rows)
        found = [rows for part, _ in marked for rows in part.sources]
        if found:
            sources = concat("sources", found)
            await self._store.write([("sources", sources)], hold)
            await self._store.mark_simulated(sources["source"], hold)
        if marked:
            await self._store.write([("marks", concat("marks", [mark for _, mark in marked]))], hold)

    async def _store_late(self, part: _Part, flush: ClosedWindows, hold: Ownership) -> None:
        state = part.owned.state
        await self._store.write(flush.late.items(), hold)
        async for tables in self._store.restated(state, flush, hold):
            await self._store.write(tables.items(), hold)
            self._touch(tables["ledger"])
        part.mark = state.late_stored(flush)
        await self._write_marks([part], hold)
        self.stored_ms = self._clock()
        metrics.RESTATED.inc(len(flush.late_keys))

    def _touch(self, ledger: Table) -> None:
        hours, clusters, workloads = touched_hours(ledger)
        self._hours.update(hours)
        self._clusters.update(clusters)
        self._workloads.update(workloads)

    async def _refresh_hours(self, parts: Mapping[int, _Part], hold: Ownership, now_ms: int) -> None:
        await self._store.refresh_hours(self._hours, self._clusters, self._workloads, hold)
        self.forget()
        self._hours_ms = now_ms
        for part in parts.values():
            part.owned.state.hours_refreshed()
