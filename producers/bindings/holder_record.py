"""Who held which GPU, for how long, for the record: rows of `wattlog.usage.v1`. Pure.

Made of the same intervals as the energy, so that the seconds on record are those that the ledger knows: downtime that a
counter bridged is in them, what nothing measured is not. A row is a run of intervals of one GPU without a hole and
under the same holders, cut every so often; seconds are split as energy is, to the millisecond.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b

from contracts.events import UsageBatch
from producers.bindings.apportion import BindingShare, GpuShares, apportion
from producers.gpu.intervals import EnergyInterval
from producers.runtime.batching import UsageRow, decimal_text, usage_batch

log = logging.getLogger(__name__)

METER, UNIT = "gpu_held_seconds", "s"
MAX_BATCH_ROWS = 4_096
MAX_CLOSED_SPANS = 4_096
"""Finished runs that wait to be kept: more than this only come together while the disk takes nothing for hours."""


@dataclass(slots=True, frozen=True)
class HolderSpan:
    """A GPU under the same holders over `[t0_ms, t1_ms)`."""

    gpu_uuid: str
    t0_ms: int
    t1_ms: int
    holding: GpuShares


class HolderRecord:
    """The runs that are not on record yet. `every_ms` is how long one gets before it is put there."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._open: dict[str, HolderSpan] = {}
        self._cut: deque[HolderSpan] = deque()
        self.lost = 0
        """Runs that were forgotten before they could be kept."""

    def resume(self, run: HolderSpan) -> None:
        """What an earlier agent had not put on record."""
        self._open[run.gpu_uuid] = run

    def take(self, intervals: Iterable[EnergyInterval], holding: GpuShares) -> None:
        """Intervals of one GPU, in order, under these holders."""
        for interval in intervals:
            run = self._open.get(interval.gpu_uuid)
            if run is not None and run.t1_ms == interval.t0_ms and run.holding == holding:
                grown = HolderSpan(run.gpu_uuid, run.t0_ms, interval.t1_ms, holding)
            else:
                self._close(run)
                grown = HolderSpan(interval.gpu_uuid, interval.t0_ms, interval.t1_ms, holding)
            self._open[interval.gpu_uuid] = grown

    def due(self, now: Mapping[str, GpuShares], *, end: bool = False) -> list[HolderSpan]:
        """Runs to put on record: those cut, those long enough, those of GPUs that others hold `now`; at the `end` all.
        They stay until `kept`."""
        ready = (r for r in self._open.values() if end or self._is_due(r) or now.get(r.gpu_uuid) != r.holding)
        return [*self._cut, *ready]

    def kept(self, runs: Iterable[HolderSpan]) -> None:
        """These are on record."""
        self._cut.clear()
        for run in runs:
            if self._open.get(run.gpu_uuid) is run:
                del self._open[run.gpu_uuid]

    def span(self, gpu_uuid: str, but: Iterable[HolderSpan] = ()) -> tuple[int, int]:
        """What of a GPU is not on record, when these runs are: (0, 0) for nothing."""
        run = self._open.get(gpu_uuid)
        return (0, 0) if run is None or any(run is b for b in but) else (run.t0_ms, run.t1_ms)

    def _is_due(self, run: HolderSpan) -> bool:
        return run.t1_ms - run.t0_ms >= self._every_ms

    def _close(self, run: HolderSpan | None) -> None:
        if run is None:
            return
        if len(self._cut) == MAX_CLOSED_SPANS:
            self._cut.popleft()
            self.lost += 1
            log.error("%d spans of who held a GPU were not kept; their energy is", self.lost)
        self._cut.append(run)


def batches(runs: Iterable[HolderSpan], node: str, origin: str) -> Iterator[tuple[str, UsageBatch]]:
    """(workload, batch) of what goes on record."""
    found: dict[str, list[UsageRow]] = {}
    for workload, row in (each for run in runs for each in rows(run, node, origin)):
        found.setdefault(workload, []).append(row)
    for workload, some in found.items():
        for first in range(0, len(some), MAX_BATCH_ROWS):
            batch = some[first : first + MAX_BATCH_ROWS]
            yield workload, usage_batch(batch, max(row.t1_ms for row in batch))


def rows(run: HolderSpan, node: str, origin: str) -> Iterator[tuple[str, UsageRow]]:
    """(workload, row) of each holder of a run; nobody's share is on no record. Rows of the same run are the same
    wherever they are made: `event_id` is a digest of what they say."""
    spans = apportion(run.t1_ms - run.t0_ms, [share.weight for share in run.holding])
    whole = sum(share.weight for share in run.holding)
    for n, (share, span_ms) in enumerate(zip(run.holding, spans, strict=True)):
        if share.about and span_ms:
            seconds = decimal_text(METER, Decimal(span_ms) / 1000)
            told = {"node": node, "gpu": run.gpu_uuid, "share": f"{share.weight}/{whole}", **dict(share.about)}
            yield share.binding.workload, UsageRow(
                METER, UNIT, seconds, run.t0_ms, run.t1_ms, share.binding.owner, origin, _digest(run, n, share),
                dimensions={name: value for name, value in told.items() if value},
            )  # fmt: skip


def _digest(run: HolderSpan, n: int, share: BindingShare) -> str:
    said = [run.gpu_uuid, run.t0_ms, n, share.binding.workload, share.binding.owner, share.about]
    return blake2b(json.dumps(said).encode(), digest_size=16).hexdigest()
