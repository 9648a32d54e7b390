"""Energy of an agent's node beside its GPUs: read with the agent's samples, and split over the GPUs' holders.

The agent stores the state with its own checkpoints, in one transaction: the last reading, spans that wait for GPUs, and
the GPUs' intervals for them. So a run that is killed loses none of it and counts none twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from contracts import topics
from contracts.boundary import HOST
from contracts.units import UJ_PER_J
from producers.bindings.apportion import Binding, GpuShares
from producers.boundary.meters import NodeMeter
from producers.boundary.share import ShareState, add_interval, add_span, split_spans
from producers.gpu.readings import EnergyInterval
from producers.runtime.agent_metrics import AgentMetrics
from producers.runtime.clock import Clock
from producers.runtime.refusals import ItemRefusal, refusal

CHECKPOINT_NAME = "node"


class NodeCheckpoint(msgspec.Struct, frozen=True):
    """State of a node's meter and of its spans, stored as MessagePack. It is continued under the same boot only.

    `source` and `hardware` are those of the meter, which alone understands its state.
    """

    boot: str
    source: str
    hardware: str
    meter: bytes
    share: ShareState


class NodeEnergy:
    """Spans of a node's host or wall, from reading to parts. `boot` identifies this boot of the machine, "" if unknown.

    `checkpoints` are those that an earlier run of the agent stored.
    """

    def __init__(
        self, meter: NodeMeter, node: str, boot: str, metrics: AgentMetrics, checkpoints: Mapping[str, bytes]
    ) -> None:
        self._meter, self._boot, self._metrics = meter, boot, metrics
        self._unallocated = Binding(topics.node_workload(node))
        self._state, self._share = b"", ShareState()
        self._shares: Mapping[str, GpuShares] = {}
        self._parts: list[tuple[Binding, EnergyInterval]] = []
        """Parts that the next split returns first."""
        if encoded := checkpoints.get(CHECKPOINT_NAME):
            last = msgspec.msgpack.decode(encoded, type=NodeCheckpoint)
            names = (last.boot, last.source, last.hardware)
            if boot and names == (boot, meter.source, meter.device.hardware):
                self._state, self._share = last.meter, last.share

    def read(self, clock: Clock) -> None:
        """Add the node's spans since the last reading. It never waits for an answer over the network."""
        try:
            measured = self._meter.measure(self._state, clock)
        except Exception as error:  # Of any class: the GPUs are metered all the same.
            self._refuse([refusal(error)], clock)
            return
        self._state = measured.state
        for span in measured.spans:
            if span.t1_ms < self._share.newest_ms:
                self._end_timeline(clock)
            self._share = add_span(self._share, span)
        self._refuse(measured.refused, clock)

    def add(self, intervals: Iterable[EnergyInterval], shares: GpuShares) -> None:
        """Add intervals of a GPU with the shares that they are charged to."""
        for interval in intervals:
            self._share = add_interval(self._share, interval, shares)

    def split(
        self, shares: Mapping[str, GpuShares], clock: Clock, *, end: bool = False
    ) -> tuple[tuple[Binding, EnergyInterval], ...]:
        """Return the parts of the spans that are due; `shares` are those of each GPU now. At the `end` all are due."""
        self._shares = shares
        result = split_spans(self._share, shares, self._unallocated, end=end)
        self._share = result.state
        self._refuse(result.left_out, clock)
        self._metrics.node_joules_left_out.inc(result.left_out_uj / UJ_PER_J)
        self._metrics.node_joules.inc(sum(part.energy_uj for _, part in result.parts) / UJ_PER_J)
        parts, self._parts = (*self._parts, *result.parts), []
        return parts

    def checkpoint(self) -> dict[str, bytes]:
        """Return the encoded checkpoint by its name."""
        meter = self._meter
        checkpoint = NodeCheckpoint(self._boot, meter.source, meter.device.hardware, self._state, self._share)
        return {CHECKPOINT_NAME: msgspec.msgpack.encode(checkpoint)}

    def _end_timeline(self, clock: Clock) -> None:
        """Split what waits where the wall clock was set back: event time began afresh, and no interval follows it."""
        self._parts += self.split(self._shares, clock, end=True)
        if spans := self._share.spans:
            uj = sum(span.energy_uj for span in spans)
            self._refuse([ItemRefusal(f"{uj / UJ_PER_J:.0f} J: the clock was set back", "not_covered")], clock)
            self._metrics.node_joules_left_out.inc(uj / UJ_PER_J)
        self._share = ShareState()

    def _refuse(self, sentences: Iterable[str], clock: Clock) -> None:
        device = "host" if self._meter.device.hardware == HOST else "wall"
        self._metrics.refusals.add(f"{device} {self._meter.source}", list(sentences), clock.monotonic_ms())
