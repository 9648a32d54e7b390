"""Late facts: what a message adds to windows that are final already. They wait here to be stored and restated."""

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
    """Late facts that were not taken yet, in the order in which they came."""

    def __init__(self) -> None:
        self._found: deque[tuple[str, int, Event, WindowSnapshot]] = deque()
        self.rows = 0
        """Memory held, in rows."""

    def __len__(self) -> int:
        return len(self._found)

    def add(self, topic: str, offset: int, event: Event, facts: WindowSnapshot) -> None:
        """The message at this offset is late with these facts."""
        self._found.append((topic, offset, event, facts))
        self.rows += facts.rows

    def take(
        self, at_most_rows: int, **provenance: int | str
    ) -> tuple[dict[str, Table], list[LateKey], frozenset[tuple[str, int]]]:
        """(rows by table, the windows they touch, the (topic, offset)s they came from) of the oldest: so many rows, one
        message at least. Forgets them."""
        made: dict[str, list[Table]] = {"gpu_energy": [], "token_usage": [], "request_energy": []}
        keys: set[LateKey] = set()
        offsets: set[tuple[str, int]] = set()
        while self._found and (not offsets or self._found[0][3].rows <= at_most_rows):
            topic, offset, event, facts = self._found.popleft()
            offsets.add((topic, offset))
            at_most_rows -= facts.rows
            self.rows -= facts.rows
            power = topic == topics.POWER
            rows = facts.gpu_energy() if power else facts.token_usage()
            wrote = {**provenance, "window_ms": facts.window_ms, "deleted": 0, "late_id": offset + 1}
            kind = "gpu_energy" if power else "token_usage"
            made[kind].append(conform(kind, {**rows, **wrote}))
            requests, _ = facts.requests()
            if length(requests):
                unshared = {**requests, **wrote, "active_uj": 0, "idle_uj": 0}
                made["request_energy"].append(conform("request_energy", unshared))
            starts = np.unique(np.asarray(rows["window_start"])).tolist()
            keys |= {(start, event.cluster, event.workload) for start in starts}
        return {name: concat(name, tables) for name, tables in made.items() if tables}, sorted(keys), frozenset(offsets)
