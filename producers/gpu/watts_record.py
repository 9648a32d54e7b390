"""Record of GPUs' energy by their watts, beside that by their counters: rows of `wattlog.usage.v1`. Pure.

Counter and watts are two witnesses of one energy. The ledger has what the counter shows; these rows have the integral
of the watts over the same readings, so that both can be compared (`wattlog reconcile`). They bear no cost.

A stretch of more than `max_gap_ms` without watts is not bridged: what the counter shows of it is recorded apart, as
energy that one witness alone has seen. So is all energy of a GPU without a counter, whose watts are the ledger's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import msgspec

from contracts.apportion import apportion
from contracts.events import Method
from contracts.meter_names import UNWATCHED_METER, WATTS_METER
from contracts.units import MS_PER_HOUR
from producers.bindings.apportion import GpuShares, binding_weights
from producers.bindings.span_record import SpanRecord
from producers.gpu.event_time import interval_start_ms
from producers.gpu.meter_state import MeterState
from producers.gpu.readings import EnergyInterval
from producers.runtime.batching import UsageRow

UNIT = "uJ"
EVERY_MS = 600_000
"""Length of a row. Rows end with the hours, by which they are compared."""


class WattsSpan(msgspec.Struct, frozen=True):
    """Energy of a GPU with the same shares over `[t0_ms, t1_ms)`, stored with the agent's checkpoint.

    `half_uj` is the integral of its watts in half microjoules, over the `read_ms` in which they were read.
    `unwatched_uj` is the energy of its intervals over the other time, and of all where it has no counter.
    """

    gpu_uuid: str
    t0_ms: int
    t1_ms: int
    shares: GpuShares
    half_uj: int = 0
    read_ms: int = 0
    unwatched_uj: int = 0


class WattsRecord(SpanRecord[WattsSpan]):
    """Energy by watts that is not recorded yet. Rows end with each `every_ms`."""

    def __init__(self, every_ms: int) -> None:
        super().__init__(every_ms, "spans of GPUs' watts")

    def add(
        self, gpu_uuid: str, before: MeterState | None, after: MeterState, intervals: Sequence[EnergyInterval],
        shares: GpuShares, max_gap_ms: int,
    ) -> None:  # fmt: skip
        """Add a reading of a GPU with these shares: its meter's states around it, and the intervals it completed."""
        if before is None:
            return
        watched_ms = 0
        if before.counter_mj is not None:
            read_ms = _read_ms(before, after, max_gap_ms)
            if read_ms and before.run_to is not None:
                half_uj = (before.run_mw + after.run_mw) * read_ms  # mW x ms = uJ, and a trapezoid is half of it.
                t0_ms = interval_start_ms(before.run_to, after.last)
                self._extend(WattsSpan(gpu_uuid, t0_ms, after.last.event_ms, shares, half_uj, read_ms))
            watched_ms = read_ms
            if before.run_from is not None and before.run_to is not None:
                watched_ms += before.run_to.monotonic_ms - before.run_from.monotonic_ms
        own = [interval for interval in intervals if interval.method is not Method.CORRECTION]
        total_ms = sum(interval.t1_ms - interval.t0_ms for interval in own)
        if total_ms > watched_ms:
            for piece in _by_hour(own):
                uj = piece.energy_uj * (total_ms - watched_ms) // total_ms
                self._extend(WattsSpan(gpu_uuid, piece.t0_ms, piece.t1_ms, shares, unwatched_uj=uj))

    def _extend(self, part: WattsSpan) -> None:
        """Add a part to the open span of its GPU, or begin another with it; an odd half microjoule is carried on."""
        span = self._open.get(part.gpu_uuid)
        half_uj = part.half_uj
        if span is not None:
            row, next_row = (span.t1_ms - 1) // self._every_ms, (part.t1_ms - 1) // self._every_ms
            if span.shares == part.shares and span.t1_ms <= part.t1_ms and row == next_row:
                self._open[part.gpu_uuid] = msgspec.structs.replace(
                    span, t1_ms=part.t1_ms, half_uj=span.half_uj + half_uj, read_ms=span.read_ms + part.read_ms,
                    unwatched_uj=span.unwatched_uj + part.unwatched_uj,
                )  # fmt: skip
                return
            half_uj += span.half_uj % 2
            self._close(span)
        self._open[part.gpu_uuid] = msgspec.structs.replace(part, half_uj=half_uj)


def rows(span: WattsSpan, node: str, origin: str) -> Iterator[tuple[str, UsageRow]]:
    """Yield (workload, row) of each binding of a span: of its watts where they were read, and of what they lack.

    A span always makes the same rows: `event_id` is a digest of their content.
    """
    weights = binding_weights(span.shares)
    amounts = {WATTS_METER: span.half_uj // 2 if span.read_ms else None, UNWATCHED_METER: span.unwatched_uj or None}
    for meter, amount in amounts.items():
        if amount is None:
            continue
        for binding, part_uj in zip(weights, apportion(amount, list(weights.values())), strict=True):
            content = [meter, span.gpu_uuid, span.t0_ms, span.t1_ms, binding.workload, binding.owner]
            yield (
                binding.workload,
                UsageRow(
                    meter=meter, unit=UNIT, quantity=str(part_uj), t0_ms=span.t0_ms, t1_ms=span.t1_ms, origin=origin,
                    event_id=blake2b(json.dumps(content).encode(), digest_size=16).hexdigest(),
                    dimensions={"node": node, "gpu": span.gpu_uuid},
                ),
            )  # fmt: skip


def _read_ms(before: MeterState, after: MeterState, max_gap_ms: int) -> int:
    """Return the time up to a reading of watts, since the last one; 0 where either was not read, or beyond a gap."""
    now = after.last
    if before.run_to is None or after.run_to != now or now == before.last:
        return 0
    elapsed_ms = now.monotonic_ms - before.run_to.monotonic_ms
    return elapsed_ms if elapsed_ms <= max_gap_ms else 0


def _by_hour(intervals: Sequence[EnergyInterval]) -> Iterator[EnergyInterval]:
    """Yield intervals cut at the hours' ends. Energy of the pieces sums to that of the interval."""
    for interval in intervals:
        t0_ms, span_ms = interval.t0_ms, interval.t1_ms - interval.t0_ms
        cuts = range(t0_ms // MS_PER_HOUR + 1, (interval.t1_ms - 1) // MS_PER_HOUR + 1)
        sent_uj = 0
        for end_ms in (*(hour * MS_PER_HOUR for hour in cuts), interval.t1_ms):
            until_uj = interval.energy_uj * (end_ms - interval.t0_ms) // span_ms
            yield EnergyInterval(
                interval.gpu_uuid, interval.hardware, t0_ms, end_ms, until_uj - sent_uj, interval.method
            )  # fmt: skip
            t0_ms, sent_uj = end_ms, until_uj
