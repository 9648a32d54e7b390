"""Record of which holders had which GPU for how long: rows of `wattlog.usage.v1`. Pure.

Spans are made of the same intervals as the energy, so the recorded seconds are those of the ledger: downtime that a
counter bridged is included, time that nothing measured is not. A span is a run of intervals of one GPU without a gap
and with the same shares, cut every so often. Seconds are split as energy is, to the millisecond.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b

from contracts.events import Method, UsageBatch
from producers.bindings.apportion import BindingShare, GpuShares, apportion
from producers.gpu.readings import EnergyInterval
from producers.runtime.batching import UsageRow, decimal_text, usage_batch

log = logging.getLogger(__name__)

METER, UNIT = "gpu_held_seconds", "s"
MAX_BATCH_ROWS = 4_096
MAX_CLOSED_SPANS = 4_096
"""Closed spans that wait to be stored. More accumulate only while the disk takes nothing for hours."""


@dataclass(slots=True, frozen=True)
class HolderSpan:
    """GPU with the same shares over `[t0_ms, t1_ms)`."""

    gpu_uuid: str
    t0_ms: int
    t1_ms: int
    shares: GpuShares


class HolderRecord:
    """Spans that are not recorded yet. `every_ms` is the length at which a span is due."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._open: dict[str, HolderSpan] = {}
        self._closed: deque[HolderSpan] = deque()
        self.lost = 0
        """Spans that were dropped before they could be stored."""

    def resume(self, span: HolderSpan) -> None:
        """Continue a span that an earlier agent did not record."""
        self._open[span.gpu_uuid] = span

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

    def due(self, now: Mapping[str, GpuShares], *, end: bool = False) -> list[HolderSpan]:
        """Return the spans to record: the closed, the long, and those of GPUs with other shares `now`.

        At the `end` it returns all. They remain until `discard`.
        """
        ready = (s for s in self._open.values() if end or self._is_due(s) or now.get(s.gpu_uuid) != s.shares)
        return [*self._closed, *ready]

    def discard(self, spans: Iterable[HolderSpan]) -> None:
        """Discard spans that are stored."""
        self._closed.clear()
        for span in spans:
            if self._open.get(span.gpu_uuid) is span:
                del self._open[span.gpu_uuid]

    def open_span(self, gpu_uuid: str, stored: Iterable[HolderSpan] = ()) -> tuple[int, int]:
        """Return start and end of the time of a GPU that is not recorded once `stored` are; (0, 0) for none."""
        span = self._open.get(gpu_uuid)
        return (0, 0) if span is None or any(span is s for s in stored) else (span.t0_ms, span.t1_ms)

    def _is_due(self, span: HolderSpan) -> bool:
        return span.t1_ms - span.t0_ms >= self._every_ms

    def _close(self, span: HolderSpan | None) -> None:
        if span is None:
            return
        if len(self._closed) == MAX_CLOSED_SPANS:
            self._closed.popleft()
            self.lost += 1
            log.error("%d spans of GPUs' holders were not stored; their energy is", self.lost)
        self._closed.append(span)


def batches(spans: Iterable[HolderSpan], node: str, origin: str) -> Iterator[tuple[str, UsageBatch]]:
    """Yield (workload, batch) of the rows of these spans."""
    rows_by_workload: dict[str, list[UsageRow]] = {}
    for span in spans:
        for workload, row in rows(span, node, origin):
            rows_by_workload.setdefault(workload, []).append(row)
    for workload, workload_rows in rows_by_workload.items():
        for first in range(0, len(workload_rows), MAX_BATCH_ROWS):
            chunk = workload_rows[first : first + MAX_BATCH_ROWS]
            yield workload, usage_batch(chunk, max(row.t1_ms for row in chunk))


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
