"""Events of an agent: batches of intervals, heartbeats and the record of holders, numbered by source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from contracts.events import Event
from producers.bindings import holder_record
from producers.bindings.apportion import Binding
from producers.gpu.readings import EnergyInterval
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
        kind = f"{self.kind}-held"
        origin = source_of(kind, self.cluster, self.node, "")
        for workload, batch in holder_record.batches(spans, self.node, origin):
            source = source_of(kind, self.cluster, self.node, workload)
            yield event_of(self.numbers, source, self.cluster, workload, batch)

    def take_back(self, events: Sequence[Event]) -> None:
        """Free the numbers of the latest events, which were never sent."""
        for event in reversed(events):
            self.numbers.take_back(event.source, event.seq)

    def _event(self, binding: Binding, rows: Sequence[EnergyInterval]) -> Event:
        columns = (
            (r.gpu_uuid, r.hardware, r.t0_ms, r.t1_ms, r.energy_uj, r.method, r.busy_ms) for r in rows
        )  # fmt: skip
        batch = power_batch(self.node, columns, owner=binding.owner, t_ms=0 if rows else self.clock.wall_ms())
        source = source_of(self.kind, self.cluster, self.node, binding.workload)
        return event_of(self.numbers, source, self.cluster, binding.workload, batch)
