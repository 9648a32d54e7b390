"""A polled source that observes objects, such as containers, and meters their use since the last observation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from contracts import checks, topics
from contracts.errors import Unavailable
from producers.api import PollResult, WorkloadBatch
from producers.common.counter_delta import MAX_OBJECTS, CounterDelta, CounterSnapshot, ObjectCounters, counter_deltas
from producers.meters import amounts
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.refusals import read_each

MAX_ROWS = 4_096
"""Rows in one event."""
MAX_COUNT = 2**64 - 1
"""The greatest value of a counter or level that a checkpoint can hold."""


class MeteredOwner(NamedTuple):
    """Workload and tenant of an object, and the dimensions of its rows."""

    workload: str
    tenant: str
    dimensions: Mapping[str, str]


class Observation(NamedTuple):
    """Counters and levels of objects, and their owners by the objects' names.

    `notes` are for the log. `refused` are errors of objects that could not be read and are left out.
    """

    snapshot: CounterSnapshot
    owners: Mapping[str, MeteredOwner]
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class ObservedSource:
    """Meters what `observe` shows every `every_ms`. `observe` raises a WattlogError if it cannot."""

    def __init__(
        self, kind: str, name: str, cluster: str, node: str, every_ms: int, observe: Callable[[Clock], Observation]
    ) -> None:
        self.kind, self.name, self.every_ms = kind, name, every_ms
        self._cluster, self._node, self.observe = cluster, node, observe

    def collect(self, checkpoint: bytes | None, clock: Clock) -> PollResult:
        """Meter the use since a checkpoint.

        An object whose names or amounts the log cannot store is refused alone. Raises what `observe` raises, and
        Unavailable for more objects than a checkpoint can hold.
        """
        observation = self.observe(clock)
        if len(observation.snapshot.objects) > MAX_OBJECTS:
            raise Unavailable(
                f"{self.name} shows {len(observation.snapshot.objects):,} objects, and a checkpoint holds "
                f"{MAX_OBJECTS:,}",
                "Configure fewer of them.",
            )
        before = msgspec.msgpack.decode(checkpoint, type=CounterSnapshot) if checkpoint else None
        result = counter_deltas(before, observation.snapshot)
        rows: dict[str, list[UsageRow]] = {}
        refused = list(observation.refused)

        def read(delta: CounterDelta) -> tuple[str, list[UsageRow]]:
            owner = observation.owners[delta.name]
            _check_owner(owner)
            return owner.workload, list(amounts.rows(delta, owner.tenant, owner.dimensions))

        placed = ((f"{self.name}, {delta.name[:100]!r}", delta) for delta in result.deltas)
        for workload, more in read_each(placed, read, refused):
            rows.setdefault(workload, []).extend(more)
        notes = list(observation.notes)
        if result.resets:
            notes.append(f"{result.resets} counters went back: their count since the last observation is unknown")
        after = msgspec.msgpack.encode(result.snapshot)
        return PollResult(list(self._batches(rows)), after, refused=refused, notes=notes)

    def _batches(self, rows_by_workload: Mapping[str, list[UsageRow]]) -> Iterable[WorkloadBatch]:
        for workload, rows in sorted(rows_by_workload.items()):
            for start in range(0, len(rows), MAX_ROWS):
                batch = usage_batch(rows[start : start + MAX_ROWS], 0)
                yield WorkloadBatch(self._cluster, workload, batch, self._node)


def _check_owner(owner: MeteredOwner) -> None:
    """Raise BadInput for a name that the log cannot store."""
    topics.check_name("workload", owner.workload)
    checks.payers("tenant", (owner.tenant,))
    checks.dimensions("dimensions", (owner.dimensions,))


def check_counts(counters: ObjectCounters) -> None:
    """Raise ValueError for a counter or level that a checkpoint cannot hold."""
    for name, value in (*counters.counters.items(), *counters.levels.items()):
        if not 0 <= value <= MAX_COUNT:
            raise ValueError(f"{name} is out of range")


def describe_observation(source: ObservedSource, clock: Clock) -> tuple[str, Exception | str]:
    """Return a source's name, and the number of its objects with their workloads, or why they cannot be read."""
    try:
        observation = source.observe(clock)
    except Exception as error:
        return source.name, error
    workloads = ", ".join(sorted({owner.workload for owner in observation.owners.values()})[:5])
    notes = "".join(f"; {note}" for note in observation.notes[:3])
    return source.name, f"{len(observation.snapshot.objects)} of {workloads or 'nobody'}{notes}"
