"""A batch of usage into the tables: copies registered, then the rows that count, then the events.

In this order: who asks which copy counts has told of its own before, so that of two workers that settle at once one
sees both (streams/core/usage_batch.py). Every step may be repeated; a batch that was cut off is stored again from the
start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from contracts.rows import Table, length
from streams import metrics
from streams.core import usage_batch as core
from streams.retrying_sink import RetryingSink
from warehouse.sink.sink import Sink


class UsageStore:
    """See the module. `clock` gives epoch milliseconds; while `held()`, what the warehouse refuses is tried again."""

    def __init__(
        self, sink: Sink, clock: Callable[[], int], idle_timeout_ms: int, held: Callable[[], bool] = lambda: True
    ) -> None:
        self._sink, self._held = sink, held
        self._store = RetryingSink(sink, clock, idle_timeout_ms)
        self._simulated: set[str] = set()

    async def store(self, batch: core.UsageMicroBatch) -> None:
        """Returns when the warehouse has it all. Raises LetGo when it is away and the batch is held no more."""
        if not batch.events:
            return
        ids, places = await asyncio.to_thread(lambda: (batch.identities(), batch.places()))
        await self._write("usage_ids", core.id_rows(batch, ids))
        found = await self._try(partial(self._sink.first_copies, ids), rows=None)
        settled = core.resolve_copies(
            ids, places, {(f.pop("id_hi"), f.pop("id_lo")): core.LogPosition(**f) for f in found}
        )
        await self._write("usage", await asyncio.to_thread(core.usage_rows, batch, settled.stays))
        if settled.won:
            await self._try(partial(self._sink.take_back_copies, settled.won, core.TAKEN_BACK))
        await self._write("usage_events", core.event_rows(batch))
        if new := core.simulated_clusters(batch, self._simulated):
            await self._try(partial(self._sink.mark_simulated, new))
            self._simulated.update(new)
        metrics.USAGE_ROWS.inc(batch.rows - settled.duplicates)
        metrics.USAGE_DUPLICATES.inc(settled.duplicates)

    async def _write(self, name: str, table: Table) -> None:
        await self._try(partial(self._sink.write, name, table), rows=length(table))

    async def _try(self, work: Callable[[], Any], rows: int | None = 0) -> Any:
        return await self._store.until_taken(work, self._held, rows=rows)
