"""Late facts: rows of messages for windows that are already final. They wait here to be stored and restated.

The way of a late event, however old it is (there is no limit of age):

1. `Partition._accept_late` finds the rows that belong to final windows, and adds them to `LateFacts`.
2. `MemoryBounds.advance` lets them wait for others, up to a second; then `LateFacts.take` passes them on.
3. `Flusher._store_late` stores them as facts of their own, keyed by the message's offset.
4. `RetryingSink.restated` reads all facts of the windows from the warehouse, and calls `restatement.restate`, which
   attributes them again: new ledger rows under a higher revision.
5. `Flusher._store_late` stores those rows. `Progress.late_stored` lets the checkpoint pass the message.

A copy of an event is recognised for `progress.SOURCE_MEMORY_MS` of silence of its source; after that it counts again.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from contracts import topics
from contracts.events import Event
from contracts.rows import Table, concat, conform, length
from streams.core.window_snapshot import WindowSnapshot

LateKey = tuple[int, str, str]
"""(window_start, cluster, workload) that late facts touch."""


class LateFacts:
    """Late facts as a queue, in the order in which their messages were read."""

    def __init__(self) -> None:
        self._queue: deque[tuple[str, int, Event, WindowSnapshot]] = deque()
        self.rows = 0
        """Memory use, in rows."""

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, topic: str, offset: int, event: Event, snapshot: WindowSnapshot) -> None:
        """Add the late part of the message at this offset. `take` returns it, for a flush to store."""
        self._queue.append((topic, offset, event, snapshot))
        self.rows += snapshot.rows

    def take(
        self, at_most_rows: int, **provenance: int | str
    ) -> tuple[dict[str, Table], list[LateKey], frozenset[tuple[str, int]]]:
        """Remove the oldest late facts: at most so many rows, but one message at least.

        Return (rows by table, the windows they touch, the (topic, offset) of their messages).
        """
        parts: dict[str, list[Table]] = {"gpu_energy": [], "token_usage": [], "request_energy": []}
        keys: set[LateKey] = set()
        places: set[tuple[str, int]] = set()
        while self._queue and (not places or self._queue[0][3].rows <= at_most_rows):
            topic, offset, event, snapshot = self._queue.popleft()
            places.add((topic, offset))
            at_most_rows -= snapshot.rows
            self.rows -= snapshot.rows
            is_power = topic == topics.POWER
            rows = snapshot.gpu_energy() if is_power else snapshot.token_usage()
            origin = {**provenance, "window_ms": snapshot.window_ms, "deleted": 0, "late_id": offset + 1}
            name = "gpu_energy" if is_power else "token_usage"
            parts[name].append(conform(name, {**rows, **origin}))
            requests, _ = snapshot.requests()
            if length(requests):
                without_energy = {**requests, **origin, "active_uj": 0, "idle_uj": 0}  # A restatement adds the energy.
                parts["request_energy"].append(conform("request_energy", without_energy))
            starts = np.unique(np.asarray(rows["window_start"])).tolist()
            keys |= {(start, event.cluster, event.workload) for start in starts}
        tables = {name: concat(name, some) for name, some in parts.items() if some}
        return tables, sorted(keys), frozenset(places)
