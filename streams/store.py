"""The sink, from an event loop: every write in a thread, and again and again until the warehouse takes it.

Every write may be repeated, so trying again is safe; what is our own fault (books that do not balance) is raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from contracts import topics
from contracts.errors import BadQuery, Unavailable
from contracts.rows import Table
from streams import metrics
from streams.core.partition import Flush, Partition
from streams.core.restate import restate
from warehouse.sink import Sink

log = logging.getLogger("wattlog.stream")

RETRY_FIRST_S, RETRY_MOST_S = 0.2, 30.0

Hours = tuple[list[int], list[str], list[str]]
"""(hours, clusters, workloads) to compute anew."""


class Store:
    """See the module. `clock` gives epoch milliseconds; an outage counts as recent for `idle_timeout_ms` after it."""

    def __init__(self, sink: Sink, clock: Callable[[], int], idle_timeout_ms: int) -> None:
        self._sink, self._clock, self._idle_timeout_ms = sink, clock, idle_timeout_ms
        self._simulated: set[str] = set()
        self._outage_ms = (0, 0)
        self.refused_ms = 0
        """When the warehouse last refused a write: a warehouse that is away is no stall; it is told, and waited for."""

    async def write(self, tables: Iterable[tuple[str, Table]], hours: Hours | None = None) -> None:
        """Store tables in their order, then refresh the hours that they touch."""
        listed = list(tables)

        def work() -> None:
            for name, table in listed:
                self._sink.write(name, table)
            if hours is not None:
                self._sink.refresh_hours(*hours)

        await self._until_taken(work)

    async def restated(self, state: Partition, flush: Flush) -> dict[str, Table]:
        """New rows of the windows that the flush's late facts, already stored, belong to."""

        def work() -> dict[str, Table]:
            stored = self._sink.facts_many(flush.late_keys)
            return restate(stored, state.policy, state.epoch, log_id=state.log_id, log_partition=state.log_partition)

        tables: dict[str, Table] = await self._until_taken(work)
        return tables

    async def mark_simulated(self, sources: Iterable[Any]) -> None:
        """What is simulated says so everywhere: the clusters of simulated sources are marked when first stored."""
        found = {cluster for s in sources if (cluster := topics.simulated_cluster(s))} - self._simulated
        if found:
            await self._until_taken(lambda: self._sink.mark_simulated(sorted(found)))
            self._simulated |= found

    def without_outage(self, now_ms: int) -> int:
        """The time by which silence is judged: less an outage of the warehouse that has just ended. Reading may have
        waited through it, and a topic that was not read is not silent: what waits there would come late."""
        began_ms, ended_ms = self._outage_ms
        return now_ms - (ended_ms - began_ms) if now_ms - ended_ms < self._idle_timeout_ms else now_ms

    async def _until_taken(self, work: Callable[[], Any]) -> Any:
        wait_s, begun_ms = RETRY_FIRST_S, self._clock()
        while True:
            try:
                done = await asyncio.to_thread(work)
                if wait_s > RETRY_FIRST_S:
                    self._note_outage(begun_ms, self._clock())
                return done
            except (Unavailable, BadQuery, OSError) as error:
                self.refused_ms = self._clock()
                metrics.STORE_RETRIES.inc()
                log.error("the warehouse did not take a write, trying again in %.1f s: %s", wait_s, error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MOST_S)

    def _note_outage(self, began_ms: int, ended_ms: int) -> None:
        if began_ms - self._outage_ms[1] < self._idle_timeout_ms:
            began_ms = self._outage_ms[0]
        self._outage_ms = began_ms, ended_ms
