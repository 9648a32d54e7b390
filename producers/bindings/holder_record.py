"""Record of which holders had which GPU for how long: rows of `wattlog.usage.v1`. Pure.

Spans are made of the same intervals as the energy, so the recorded seconds are those of the ledger: downtime that a
counter bridged is included, time that nothing measured is not. A span is a run of intervals of one GPU without a gap
and with the same shares, cut every so often. Seconds are split as energy is, to the millisecond.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b

from contracts.apportion import apportion
from contracts.events import Method
from producers.bindings.apportion import BindingShare, GpuShares
from producers.bindings.span_record import SpanRecord
from producers.gpu.readings import EnergyInterval
from producers.runtime.batching import UsageRow, decimal_text

METER, UNIT = "gpu_held_seconds", "s"


@dataclass(slots=True, frozen=True)
class HolderSpan:
    """GPU with the same shares over `[t0_ms, t1_ms)`."""

    gpu_uuid: str
    t0_ms: int
    t1_ms: int
    shares: GpuShares


class HolderRecord(SpanRecord[HolderSpan]):
    """Spans of GPUs' holders that are not recorded yet."""

    def __init__(self, every_ms: int) -> None:
        super().__init__(every_ms, "spans of GPUs' holders")

    def add(self, intervals: Iterable[EnergyInterval], shares: GpuShares) -> None:
        """Add intervals of one GPU, in order, with these shares."""
        for interval in intervals:
            if interval.method is Method.CORRECTION:  # Its time is that of other intervals.
                continue
            span = self._open.get(interval.gpu_uuid)
            if span is not None and span.t1_ms == interval.t0_ms and span.shares == shares:
                extended = HolderSpan(span.gpu_uuid, span.t0_ms, interval.t1_ms, shares)
            else:
                self._close(span)
                extended = HolderSpan(interval.gpu_uuid, interval.t0_ms, interval.t1_ms, shares)
            self._open[interval.gpu_uuid] = extended

    def open_span(self, gpu_uuid: str, stored: Iterable[HolderSpan] = ()) -> tuple[int, int]:
        """Return start and end of the time of a GPU that is not recorded once `stored` are; (0, 0) for none."""
        span = self.unrecorded(gpu_uuid, stored)
        return (0, 0) if span is None else (span.t0_ms, span.t1_ms)


def rows(span: HolderSpan, node: str, origin: str) -> Iterator[tuple[str, UsageRow]]:
    """Yield (workload, row) of each holder of a span; unallocated shares are not recorded.

    A span always makes the same rows: `event_id` is a digest of their content.
    """
    spans_ms = apportion(span.t1_ms - span.t0_ms, [share.weight for share in span.shares])
    weight_sum = sum(share.weight for share in span.shares)
    for n, (share, span_ms) in enumerate(zip(span.shares, spans_ms, strict=True)):
        if share.about and span_ms:
            seconds = decimal_text(METER, Decimal(span_ms) / 1000)
            about = {"node": node, "gpu": span.gpu_uuid, "share": f"{share.weight}/{weight_sum}", **dict(share.about)}
            yield (
                share.binding.workload,
                UsageRow(
                    meter=METER,
                    unit=UNIT,
                    quantity=seconds,
                    t0_ms=span.t0_ms,
                    t1_ms=span.t1_ms,
                    tenant=share.binding.owner,
                    origin=origin,
                    event_id=_digest(span, n, share),
                    dimensions={name: value for name, value in about.items() if value},
                ),
            )


def _digest(span: HolderSpan, n: int, share: BindingShare) -> str:
    content = [span.gpu_uuid, span.t0_ms, n, share.binding.workload, share.binding.owner, share.about]
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
