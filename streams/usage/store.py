"""Storage of a batch of usage: register copies, then store the rows that count, then the events.

The order matters: a worker registers its copies before it asks which copy counts. So of two workers that do so at the
same time, at least one sees both (`streams.core.usage_batch`). Every step may be repeated: an interrupted batch is
stored again from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from contracts.rows import Table, length
from streams import metrics
from streams.core import usage_batch as core
from streams.retrying_sink import RetryingSink, StillOwned, always
from warehouse.sink.sink import Sink

_Result = TypeVar("_Result")


class UsageStore:
    """Stores batches of usage. `clock` gives epoch milliseconds; calls are retried while `still_owned()`."""

    def __init__(
        self, sink: Sink, clock: Callable[[], int], idle_timeout_ms: int, still_owned: StillOwned = always
    ) -> None:
        self._sink, self._still_owned = sink, still_owned
        self._retrying_sink = RetryingSink(sink, clock, idle_timeout_ms)
        self._simulated: set[str] = set()

    async def store(self, batch: core.UsageMicroBatch) -> None:
        """Store a batch completely.

        Raises OwnershipLost if the warehouse is unreachable and the batch is not owned any more.
        """
        if not batch.events:
            return
        ids, positions = await asyncio.to_thread(lambda: (batch.identities(), batch.positions()))
        await self._write("usage_ids", core.id_rows(batch, ids))
        copies = await self._until_accepted(partial(self._sink.first_copies, ids), rows=None)
        first = {(copy.pop("id_hi"), copy.pop("id_lo")): core.LogPosition(**copy) for copy in copies}
        resolution = core.resolve_copies(ids, positions, first)
        await self._write("usage", await asyncio.to_thread(core.usage_rows, batch, resolution.counts))
        if resolution.superseded:
            await self._until_accepted(partial(self._sink.take_back_copies, resolution.superseded, core.TAKEN_BACK))
        await self._write("usage_events", core.event_rows(batch))
        if new := core.simulated_clusters(batch, self._simulated):
            await self._until_accepted(partial(self._sink.mark_simulated, new))
            self._simulated.update(new)
        metrics.USAGE_ROWS.inc(batch.rows - resolution.duplicates)
        metrics.USAGE_DUPLICATES.inc(resolution.duplicates)

    async def _write(self, name: str, table: Table) -> None:
        await self._until_accepted(partial(self._sink.write, name, table), rows=length(table))

    async def _until_accepted(self, call: Callable[[], _Result], rows: int | None = 0) -> _Result:
        return await self._retrying_sink.until_accepted(call, self._still_owned, rows=rows)
