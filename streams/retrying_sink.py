"""The sink, from an event loop: every write in a thread, and again and again until the warehouse takes it.

Every write may be repeated, so trying again is safe, after a timeout too: what was stored already is stored once more.
What is our own fault (books that do not balance), and what another worker's claim forbids, is raised.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from contracts import topics
from contracts.errors import BadQuery, Unavailable
from contracts.rows import Table, length
from streams import metrics
from streams.core.late_facts import LateKey
from streams.core.partition import ClosedWindows, Partition
from streams.core.restatement import restate
from streams.sink_outage import SinkOutage
from warehouse.sink.fence import Fence
from warehouse.sink.sink import Sink

log = logging.getLogger("wattlog.stream")

RETRY_FIRST_S, RETRY_MOST_S = 0.2, 10.0
PATIENCE_MS = 60_000
"""How long a worker tries what hardly passes by itself (`Unavailable.lasting`: no table, no access, tables of another
version), before it ends with that error. Nothing is lost: it goes on there when it is started again."""
RESTATE_ROWS = 200_000
"""Rows of windows that are restated together, at some 1.1 kB each."""


class OwnershipLost(Exception):  # noqa: N818 - a fact, not an error: nobody sees it but the stream worker
    """The partition was given up while the warehouse was away: its next owner stores what this write was about."""


def always() -> bool:
    return True


@dataclass(frozen=True)
class Ownership:
    """Partitions as their owner holds them: the claim that every write shows, and whether they are still held here."""

    fence: Fence
    held: Callable[[], bool] = always


class RetryingSink:
    """See the module. `clock` gives epoch milliseconds, `waiting` the rows that wait in memory to be stored."""

    def __init__(
        self, sink: Sink, clock: Callable[[], int], idle_timeout_ms: int, waiting: Callable[[], int] = lambda: 0
    ) -> None:
        self._sink, self._clock, self._waiting = sink, clock, waiting
        self._simulated: set[str] = set()
        self.outage = SinkOutage(idle_timeout_ms)

    async def write(self, tables: Iterable[tuple[str, Table]], hold: Ownership) -> None:
        """Store tables in their order.

        Raises Fenced when another worker has claimed a partition, OwnershipLost when they were given up here and the
        warehouse is away.
        """
        listed = list(tables)

        def work() -> None:
            for name, table in listed:
                self._sink.write(name, table, hold.fence)

        await self.until_taken(work, hold.held, rows=sum(length(table) for _, table in listed))

    async def refresh_hours(
        self, hours_ms: Collection[int], clusters: Collection[str], workloads: Collection[str], hold: Ownership
    ) -> None:
        """Compute these hours of these workloads anew."""
        refresh = partial(self._sink.refresh_hours, sorted(hours_ms), sorted(clusters), sorted(workloads))
        await self.until_taken(refresh, hold.held)

    async def claimed_above(self, hold: Ownership) -> list[int]:
        """Which of the partitions of a write that was fenced off another worker has claimed: at least one."""
        fence = hold.fence
        ask = partial(self._sink.claimed_above, fence.log_id, fence.log_partitions, fence.epoch)
        found: list[int] = await self.until_taken(ask, hold.held, rows=None)
        return found or list(fence.log_partitions)

    async def restated(
        self, state: Partition, flush: ClosedWindows, hold: Ownership
    ) -> AsyncIterator[dict[str, Table]]:
        """New rows of the windows that the flush's late facts, already stored, belong to: several times some windows,
        so that no more than RESTATE_ROWS are looked through together, or one window of one workload."""

        def work(windows: list[LateKey]) -> dict[str, Table]:
            stored = self._sink.facts_many(windows)
            return restate(stored, state.policy, state.epoch, log_id=state.log_id, log_partition=state.log_partition)

        groups = [flush.late_keys]
        if len(flush.late_keys) > 1:
            rows = await self.until_taken(lambda: self._sink.rows_in(flush.late_keys), hold.held, rows=None)
            groups = _groups(flush.late_keys, rows)
        for windows in groups:
            yield await self.until_taken(partial(work, windows), hold.held, rows=None)

    async def mark_simulated(self, sources: Iterable[Any], hold: Ownership) -> None:
        """What is simulated says so everywhere: the clusters of simulated sources are marked when first stored."""
        found = {cluster for s in sources if (cluster := topics.simulated_cluster(s))} - self._simulated
        if found:
            await self.until_taken(lambda: self._sink.mark_simulated(sorted(found)), hold.held)
            self._simulated |= found

    async def until_taken(
        self, work: Callable[[], Any], held: Callable[[], bool] = always, rows: int | None = 0
    ) -> Any:
        """What `work` returns, when the warehouse has done it. Tried again for as long as `held()`, else OwnershipLost.

        `rows` are those that it stores; None where it only reads, which says nothing about whether writes are taken.
        """
        wait_s, begun_ms = RETRY_FIRST_S, self._clock()
        while True:
            try:
                done = await asyncio.to_thread(work)
            except (Unavailable, BadQuery, OSError) as error:
                now_ms, reason = self._clock(), _reason(error)
                self.outage.refused(begun_ms, now_ms)
                metrics.STORE_RETRIES.labels(reason).inc()
                metrics.STORE_OUTAGE.set(self.outage.away_s(now_ms))
                if isinstance(error, Unavailable) and error.lasting and now_ms - begun_ms > PATIENCE_MS:
                    raise
                log.error("the warehouse did not do it (%s), trying again in %.1f s: %s", reason, wait_s, error)
                await asyncio.sleep(wait_s)
                if not held():
                    raise OwnershipLost from error
                wait_s = min(2 * wait_s, RETRY_MOST_S)
                continue
            if rows is not None:
                self._taken(rows)
            return done

    def _taken(self, rows: int) -> None:
        said = self.outage.taken(self._clock(), rows, self._waiting())
        metrics.STORED_ROWS.inc(rows)
        if said:
            metrics.STORE_OUTAGE.set(0)
            log.warning(said)

    def round(self, lag_ms: int, behind: bool) -> None:
        """Once a second: `lag_ms` is how far what was read is behind the clock, `behind` whether windows wait that
        could be final."""
        now_ms = self._clock()
        if said := self.outage.round(now_ms, lag_ms, behind):
            log.warning(said)
        metrics.CATCHUP.set(self.outage.catchup_rows_per_s(now_ms))


def _groups(windows: Sequence[LateKey], rows: Mapping[LateKey, int]) -> list[list[LateKey]]:
    groups: list[list[LateKey]] = []
    left = 0
    for window in windows:
        left -= rows.get(window, 0)
        if left < 0 or not groups:
            groups.append([])
            left = RESTATE_ROWS - rows.get(window, 0)
        groups[-1].append(window)
    return groups


def _reason(error: Exception) -> str:
    if isinstance(error, Unavailable):
        return error.reason
    if isinstance(error, BadQuery):
        return "too_much"
    return "disk_full" if isinstance(error, OSError) and error.errno == errno.ENOSPC else "disk"
