"""The sink for an event loop: each call runs in a thread, and is retried until the warehouse accepts it.

Every write may be repeated, so a retry is safe, after a timeout too: rows that were stored are stored again. Errors of
our own (unbalanced books), and a claim of another worker (Fenced), are raised at once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

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

RETRY_FIRST_S, RETRY_MAX_S = 0.2, 10.0
PATIENCE_MS = 60_000
"""How long a worker retries what hardly passes by waiting (`Unavailable.lasting`: no table, no access, tables of
another version). Then it ends with that error. Nothing is lost: the next start continues there."""
RESTATE_ROWS = 200_000
"""Rows of windows that are restated together, at some 1.1 kB each."""

StillOwned = Callable[[], bool]
"""Returns False once a rebalance has taken the partitions away that a call is about."""
_Result = TypeVar("_Result")


class OwnershipLost(Exception):  # noqa: N818 - a fact, not an error: only the stream worker sees it
    """The partitions were taken away while the warehouse was unreachable: their next owner stores these rows."""


def always() -> bool:
    return True


@dataclass(frozen=True)
class Ownership:
    """Partitions as a write needs them: the claim that the warehouse checks, and whether they are still owned here."""

    fence: Fence
    still_owned: StillOwned = always


class RetryingSink:
    """Sink calls with retries. `clock` gives epoch milliseconds, `waiting_rows` the rows in memory to be stored."""

    def __init__(
        self, sink: Sink, clock: Callable[[], int], idle_timeout_ms: int, waiting_rows: Callable[[], int] = lambda: 0
    ) -> None:
        self._sink, self._clock, self._waiting_rows = sink, clock, waiting_rows
        self._simulated: set[str] = set()
        self.outage = SinkOutage(idle_timeout_ms)

    async def write(self, tables: Iterable[tuple[str, Table]], ownership: Ownership) -> None:
        """Store tables in their order.

        Raises Fenced if another worker has claimed a partition; OwnershipLost if a rebalance took them away while the
        warehouse was unreachable.
        """
        tables = list(tables)
        write_all = partial(_write_all, self._sink, tables, ownership.fence)
        await self.until_accepted(write_all, ownership.still_owned, rows=sum(length(table) for _, table in tables))

    async def refresh_hours(
        self,
        hours_ms: Collection[int],
        clusters: Collection[str],
        workloads: Collection[str],
        still_owned: StillOwned,
    ) -> None:
        """Recompute `ledger_hour` for these hours of these workloads."""
        refresh = partial(self._sink.refresh_hours, sorted(hours_ms), sorted(clusters), sorted(workloads))
        await self.until_accepted(refresh, still_owned)

    async def claimed_by_others(self, ownership: Ownership) -> list[int]:
        """Return the partitions of a fenced write that another worker has claimed: at least one."""
        fence = ownership.fence
        ask = partial(self._sink.claimed_above, fence.log_id, fence.log_partitions, fence.epoch)
        return await self.until_accepted(ask, ownership.still_owned, rows=None) or list(fence.log_partitions)

    async def restated(
        self, partition: Partition, closed: ClosedWindows, still_owned: StillOwned
    ) -> AsyncIterator[dict[str, Table]]:
        """Yield new rows of the windows to which the late facts, already stored, belong, for the flush to store.

        All facts of these windows are read from the warehouse and attributed again (`restatement.restate`). Each part
        restates windows of RESTATE_ROWS rows together at most, or one window of one workload.
        """

        def restate_windows(keys: list[LateKey]) -> dict[str, Table]:
            stored = self._sink.facts_many(keys)
            return restate(
                stored, partition.policy, partition.epoch,
                log_id=partition.log_id, log_partition=partition.log_partition,
            )  # fmt: skip

        groups = [closed.late_keys]
        if len(closed.late_keys) > 1:
            rows = await self.until_accepted(partial(self._sink.rows_in, closed.late_keys), still_owned, rows=None)
            groups = _groups(closed.late_keys, rows)
        for keys in groups:
            yield await self.until_accepted(partial(restate_windows, keys), still_owned, rows=None)

    async def mark_simulated(self, sources: Iterable[Any], still_owned: StillOwned) -> None:
        """Mark the clusters of simulated sources as simulated, when they are first stored."""
        new = {cluster for s in sources if (cluster := topics.simulated_cluster(s))} - self._simulated
        if new:
            await self.until_accepted(partial(self._sink.mark_simulated, sorted(new)), still_owned)
            self._simulated |= new

    async def until_accepted(
        self, call: Callable[[], _Result], still_owned: StillOwned = always, rows: int | None = 0
    ) -> _Result:
        """Run `call` in a thread, again and again until the warehouse accepts it, and return its result.

        `rows` is the number that it stores; None if it only reads, which does not tell whether writes are accepted.
        Raises OwnershipLost after a failure, once `still_owned()` is False.
        """
        wait_s, begun_ms = RETRY_FIRST_S, self._clock()
        while True:
            try:
                result = await asyncio.to_thread(call)
            except (Unavailable, BadQuery, OSError) as error:
                now_ms, reason = self._clock(), _reason(error)
                self.outage.note_refused(begun_ms, now_ms)
                metrics.STORE_RETRIES.labels(reason).inc()
                metrics.STORE_OUTAGE.set(self.outage.away_s(now_ms))
                if isinstance(error, Unavailable) and error.lasting and now_ms - begun_ms > PATIENCE_MS:
                    raise
                log.error("the warehouse refused a call (%s), retrying in %.1f s: %s", reason, wait_s, error)
                await asyncio.sleep(wait_s)
                if not still_owned():
                    raise OwnershipLost from error
                wait_s = min(2 * wait_s, RETRY_MAX_S)
                continue
            if rows is not None:
                self._note_accepted(rows)
            return result

    def _note_accepted(self, rows: int) -> None:
        report = self.outage.note_accepted(self._clock(), rows, self._waiting_rows())
        metrics.STORED_ROWS.inc(rows)
        if report:
            metrics.STORE_OUTAGE.set(0)
            log.warning(report)

    def note_lag(self, lag_ms: int, overdue: bool) -> None:
        """Note once a second how far the watermark is behind the clock, and whether windows are overdue."""
        now_ms = self._clock()
        if report := self.outage.note_lag(now_ms, lag_ms, overdue):
            log.warning(report)
        metrics.CATCHUP.set(self.outage.catchup_rows_per_s(now_ms))


def _write_all(sink: Sink, tables: Iterable[tuple[str, Table]], fence: Fence) -> None:
    for name, table in tables:
        sink.write(name, table, fence)


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
