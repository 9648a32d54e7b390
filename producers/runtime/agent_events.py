"""Events of an agent: batches of intervals, heartbeats, the records of holders and watts, numbered by source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from contracts.events import Event
from producers.bindings import holder_record
from producers.bindings.apportion import Binding
from producers.gpu import watts_record
from producers.gpu.readings import EnergyInterval
from producers.runtime.batching import UsageRow, usage_batch
from producers.runtime.clock import Clock
from producers.runtime.event_sequence import Sequencer, event_of, power_batch, source_of

MAX_BATCH_ROWS = 4_096


@dataclass(frozen=True)
class AgentEvents:
    """Events of one run of an agent; `kind` begins their sources."""

    cluster: str
    node: str
    kind: str
    clock: Clock
    numbers: Sequencer

    def power(self, rows: Mapping[Binding, Sequence[EnergyInterval]], *, heartbeats: bool) -> Iterator[Event]:
        """Yield the events of each workload's rows; of one without rows, a heartbeat."""
        for binding, parts in rows.items():
            if not parts and heartbeats:
                yield self._event(binding, [])
            for first in range(0, len(parts), MAX_BATCH_ROWS):
                yield self._event(binding, parts[first : first + MAX_BATCH_ROWS])

    def holders(self, spans: Sequence[holder_record.HolderSpan]) -> Iterator[Event]:
        """Yield the record of the GPUs' holders, under separate event sources: it goes to another topic."""
        kind, origin = self._usage_source("held")
        yield from self._usage(kind, (row for span in spans for row in holder_record.rows(span, self.node, origin)))

    def watts(self, spans: Sequence[watts_record.WattsSpan]) -> Iterator[Event]:
        """Yield the record of energy by watts, under separate event sources too."""
        kind, origin = self._usage_source("watts")
        yield from self._usage(kind, (row for span in spans for row in watts_record.rows(span, self.node, origin)))

    def take_back(self, events: Sequence[Event]) -> None:
        """Free the numbers of the latest events, which were never sent."""
        for event in reversed(events):
            self.numbers.take_back(event.source, event.seq)

    def _usage_source(self, record: str) -> tuple[str, str]:
        """Return the kind of a record's sources, and what its rows name as their origin."""
        kind = f"{self.kind}-{record}"
        return kind, source_of(kind, self.cluster, self.node, "")

    def _usage(self, kind: str, rows: Iterable[tuple[str, UsageRow]]) -> Iterator[Event]:
        by_workload: dict[str, list[UsageRow]] = {}
        for workload, row in rows:
            by_workload.setdefault(workload, []).append(row)
        for workload, parts in by_workload.items():
            source = source_of(kind, self.cluster, self.node, workload)
            for first in range(0, len(parts), MAX_BATCH_ROWS):
                chunk = parts[first : first + MAX_BATCH_ROWS]
                batch = usage_batch(chunk, max(row.t1_ms for row in chunk))
                yield event_of(self.numbers, source, self.cluster, workload, batch)

    def _event(self, binding: Binding, rows: Sequence[EnergyInterval]) -> Event:
        columns = (
            (r.gpu_uuid, r.hardware, r.t0_ms, r.t1_ms, r.energy_uj, r.method, r.busy_ms) for r in rows
        )  # fmt: skip
        batch = power_batch(self.node, columns, owner=binding.owner, t_ms=0 if rows else self.clock.wall_ms())
        source = source_of(self.kind, self.cluster, self.node, binding.workload)
        return event_of(self.numbers, source, self.cluster, binding.workload, batch)
