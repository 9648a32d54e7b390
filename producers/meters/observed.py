"""Things that are looked at every so often, as a source of a collector: what they used since the last look."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from contracts.errors import Unavailable
from producers.common.counter_delta import MAX_OBJECTS, CounterSnapshot, counter_deltas
from producers.meters import amounts
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.poll_loop import Collected, Made

MAX_ROWS = 4_096
"""Rows in one event."""


class MeteredOwner(NamedTuple):
    """Whose a thing is, and what its rows are broken down by."""

    workload: str
    tenant: str
    dimensions: Mapping[str, str]


class Observation(NamedTuple):
    """One look, and whose each of its things is. `notes` are for the log."""

    look: CounterSnapshot
    places: Mapping[str, MeteredOwner]
    notes: tuple[str, ...] = ()


class ObservedSource:
    """See the module. `see` looks now, or raises a WattlogError."""

    def __init__(
        self, kind: str, name: str, cluster: str, node: str, every_ms: int, see: Callable[[Clock], Observation]
    ) -> None:
        self.kind, self.name, self.every_ms = kind, name, every_ms
        self._cluster, self._node, self.see = cluster, node, see

    def collect(self, mark: bytes | None, clock: Clock) -> Collected:
        """Raises what `see` raises, and Unavailable for more things than can be kept."""
        seen = self.see(clock)
        if len(seen.look.objects) > MAX_OBJECTS:
            raise Unavailable(
                f"{self.name} shows {len(seen.look.objects):,} things, and {MAX_OBJECTS:,} can be kept",
                "Look at fewer of them.",
            )
        took = counter_deltas(msgspec.msgpack.decode(mark, type=CounterSnapshot) if mark else None, seen.look)
        found: dict[str, list[UsageRow]] = {}
        for used in took.deltas:
            place = seen.places[used.name]
            found.setdefault(place.workload, []).extend(amounts.rows(used, place.tenant, place.dimensions))
        notes = list(seen.notes)
        if took.resets:
            notes.append(f"{took.resets} counters went back: what they had counted since the last look is not known")
        return Collected(list(self._made(found)), msgspec.msgpack.encode(took.snapshot), notes=notes)

    def _made(self, found: Mapping[str, list[UsageRow]]) -> Iterable[Made]:
        for workload, rows in sorted(found.items()):
            for start in range(0, len(rows), MAX_ROWS):
                batch = usage_batch(rows[start : start + MAX_ROWS], 0)
                yield Made(self._cluster, workload, batch, self._node)
