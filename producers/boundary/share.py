"""Split of a node's energy over the workloads whose GPUs run there. Pure; exact in microjoules and milliseconds.

A *span* is the energy of the node's host, or of all that it draws from the wall, over `[t0, t1)`. It waits until the
intervals of every GPU reach its end, or for MAX_WAIT_MS. Then it is split like a shared GPU's interval
(`producers.bindings.apportion`), by weights:

1. The energy of each binding's GPUs in the span, pro rata where an interval reaches beyond it.

2. The GPU-seconds of each binding, where that energy is 0.

3. The GPUs that each binding has now, where no interval is known; without GPUs, the node itself.

Of the wall, the energy of the GPUs in the span is subtracted first:

* A GPU without intervals in the span may have drawn any part of it. What is left would charge that as the host's, and
  count it twice if the GPU's counter shows it later. So such a span is left out, and named.

* Where the wall shows less than its GPUs, it may only lag: the span is merged with those after it, up to
  MAX_MERGED_MS. If it shows less even so, its host's energy is unknown, not 0. It is left out, and named.

* Energy of GPUs that comes late, for spans that are split already (a counter's correction), is owed: the next spans are
  smaller by it, and ESTIMATED. So GPUs and the rest of the wall sum to the wall.

What waits is bounded: spans and intervals become coarser instead of more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec

from contracts.apportion import apportion
from contracts.boundary import HOST, WALL_LESS_GPUS
from contracts.events import MAX_SPAN_MS, Method
from contracts.units import UJ_PER_J
from producers.bindings.apportion import Binding, BindingShare, GpuShares, binding_weights, split_intervals
from producers.gpu.meter import MAX_HOLD_MS
from producers.gpu.readings import EnergyInterval, merge_intervals
from producers.runtime.refusals import ItemRefusal

MAX_WAIT_MS: Mapping[str, int] = {HOST: 600_000, WALL_LESS_GPUS: MAX_HOLD_MS + 300_000}
"""How long a span waits for the GPUs. A host's needs only their proportions. A wall's waits for counters that stand."""
MAX_MERGED_MS = 60_000
"""Longest span that is made of several because the wall lags behind its GPUs."""
MAX_SPANS = 512
MAX_INTERVALS = 128
"""Intervals of one GPU that are kept for spans to come."""
SLACK_MS = 100
"""Time that clocks may leave between the intervals of a GPU, beside 1/50 of the span; half of a short span at most. No
energy is in it."""


class HeldInterval(NamedTuple):
    """Interval of a GPU, and who held the GPU."""

    interval: EnergyInterval
    shares: GpuShares


class ShareState(msgspec.Struct, frozen=True):
    """Spans that are not split yet, and the GPUs' intervals for them. Stored with the agent's checkpoint."""

    spans: tuple[EnergyInterval, ...] = ()
    intervals: dict[str, tuple[HeldInterval, ...]] = {}
    """By GPU."""
    covered_to_ms: dict[str, int] = {}
    """End of each GPU's last interval."""
    unbroken_from_ms: int = 0
    split_to_ms: int = 0
    """The last spans that were split without one left out between them began and ended here."""
    owed_uj: int = 0
    """Energy of GPUs that was known only after its span of the wall was split."""

    @property
    def newest_ms(self) -> int:
        """End of the last span."""
        return self.spans[-1].t1_ms if self.spans else self.split_to_ms


class SplitResult(NamedTuple):
    """New state, the parts of the spans that were split, and a sentence on each span that was left out."""

    state: ShareState
    parts: tuple[tuple[Binding, EnergyInterval], ...] = ()
    left_out: tuple[ItemRefusal, ...] = ()
    left_out_uj: int = 0


def add_interval(state: ShareState, interval: EnergyInterval, shares: GpuShares) -> ShareState:
    """Add an interval of a GPU with the shares that it is charged to."""
    uuid, late_uj, covered_to_ms = interval.gpu_uuid, 0, interval.t1_ms
    held = _coarsened((*state.intervals.get(uuid, ()), HeldInterval(interval, shares)))
    if interval.method is Method.CORRECTION:  # Its time is that of other intervals.
        covered_to_ms = state.covered_to_ms.get(uuid, 0)
        from_ms, to_ms = max(interval.t0_ms, state.unbroken_from_ms), min(interval.t1_ms, state.split_to_ms)
        late_uj = _energy_uj(interval, from_ms, to_ms) if from_ms < to_ms else 0
    return msgspec.structs.replace(
        state,
        intervals=state.intervals | {uuid: held},
        covered_to_ms=state.covered_to_ms | {uuid: covered_to_ms},
        owed_uj=state.owed_uj + late_uj,
    )


def add_span(state: ShareState, span: EnergyInterval) -> ShareState:
    """Add a span of the node, whose hardware says whether it is the host's or the wall's."""
    spans = (*state.spans, span)
    if len(spans) > MAX_SPANS:
        spans = tuple(_merged_pairs(spans))
    return msgspec.structs.replace(state, spans=spans)


def split_spans(
    state: ShareState, shares: Mapping[str, GpuShares], unallocated: Binding, *, end: bool = False
) -> SplitResult:
    """Split the spans that need not wait any longer. `shares` are those of the GPUs that are metered now.

    At the `end` all are split, but for what of the wall is later than the GPUs' last intervals: that stays in the
    state, and the next run continues from it.
    """
    spans = list(state.spans)
    parts: list[tuple[Binding, EnergyInterval]] = []
    left_out: list[ItemRefusal] = []
    left_out_uj = 0
    while spans:
        span, following = spans[0], spans[1] if len(spans) > 1 else None
        readiness = _readiness(state, spans, shares, end)
        if readiness.waits:
            break
        if readiness.to_ms < span.t1_ms:
            span, following = _cut(span, readiness.to_ms)
            spans[:1] = [span, following]
        use = _use(state, span)
        reason = None
        if span.hardware == WALL_LESS_GPUS:
            if uncovered := _uncovered(use, span, shares):
                reason = ItemRefusal(f"{_place(span)}: {uncovered} was not measured", "not_covered")
            elif span.energy_uj < use.gpu_uj:
                can_merge = following is None or _are_mergeable(span, following, MAX_MERGED_MS)
                if can_merge and span.t1_ms - span.t0_ms < MAX_MERGED_MS:
                    if following is None or end:
                        break  # It waits for the next span, at the end for the next run.
                    spans[:2] = [merge_intervals(span, following)]
                    continue
                below_j = (use.gpu_uj - span.energy_uj) / UJ_PER_J
                reason = ItemRefusal(f"{_place(span)}: the wall shows {below_j:.0f} J less than its GPUs", "below_gpus")
        if reason:
            left_out.append(reason)
            left_out_uj += span.energy_uj
            state = msgspec.structs.replace(state, unbroken_from_ms=span.t1_ms, split_to_ms=span.t1_ms)
        else:
            is_unbroken = span.t0_ms == state.split_to_ms
            state, to_split = _less_gpus(state, span, use)
            parts += _parts(to_split, _weights(use, shares, unallocated))
            unbroken_from_ms = state.unbroken_from_ms if is_unbroken else span.t0_ms
            split_to_ms = max(state.split_to_ms, span.t1_ms)
            state = msgspec.structs.replace(state, unbroken_from_ms=unbroken_from_ms, split_to_ms=split_to_ms)
        del spans[0]
        state = _without_past(state, min([span.t1_ms, *(after.t0_ms for after in spans[:1])]), shares)
    return SplitResult(msgspec.structs.replace(state, spans=tuple(spans)), tuple(parts), tuple(left_out), left_out_uj)


class _Readiness(NamedTuple):
    """Decision on the first span: it waits, or can be split up to a moment."""

    waits: bool
    to_ms: int


def _readiness(
    state: ShareState, spans: Sequence[EnergyInterval], shares: Mapping[str, GpuShares], end: bool
) -> _Readiness:
    span = spans[0]
    reached_ms = min((state.covered_to_ms.get(uuid, 0) for uuid in shares), default=span.t1_ms)
    newest_ms = max(spans[-1].t1_ms, *state.covered_to_ms.values(), 0)
    is_overdue = newest_ms - span.t1_ms > MAX_WAIT_MS[span.hardware] or len(spans) > MAX_SPANS
    if reached_ms >= span.t1_ms or is_overdue:
        return _Readiness(False, span.t1_ms)
    if not end:
        return _Readiness(True, 0)
    if span.hardware == HOST:
        return _Readiness(False, span.t1_ms)
    return _Readiness(reached_ms <= span.t0_ms, reached_ms)


@dataclass(slots=True)
class _Use:
    """Use of the GPUs in a span: by binding their energy and time, by GPU the time that is covered."""

    energy_uj: dict[Binding, int] = field(default_factory=dict)
    held_ms: dict[Binding, int] = field(default_factory=dict)
    covered_ms: dict[str, int] = field(default_factory=dict)
    gpu_uj: int = 0
    method: Method = Method.COUNTER


def _use(state: ShareState, span: EnergyInterval) -> _Use:
    use = _Use()
    for uuid, held in sorted(state.intervals.items()):  # In any order of arrival the parts are the same.
        for interval, shares in held:
            t0_ms, t1_ms = max(interval.t0_ms, span.t0_ms), min(interval.t1_ms, span.t1_ms)
            if t0_ms >= t1_ms:
                continue
            is_correction = interval.method is Method.CORRECTION
            energy_uj, held_ms = _energy_uj(interval, t0_ms, t1_ms), 0 if is_correction else t1_ms - t0_ms
            weights = binding_weights(shares)
            for amounts, total in ((use.energy_uj, energy_uj), (use.held_ms, held_ms)):
                for binding, part in zip(weights, apportion(total, list(weights.values())), strict=True):
                    amounts[binding] = amounts.get(binding, 0) + part
            use.gpu_uj += energy_uj
            use.covered_ms[uuid] = use.covered_ms.get(uuid, 0) + held_ms
            use.method = max(use.method, Method.ESTIMATED if is_correction else interval.method)
    return use


def _uncovered(use: _Use, span: EnergyInterval, shares: Mapping[str, GpuShares]) -> str:
    """Return a GPU that lacks intervals in a span, or ""."""
    span_ms = span.t1_ms - span.t0_ms
    least_ms = span_ms - min(SLACK_MS, span_ms // 2) - span_ms // 50
    return next((uuid for uuid in shares if use.covered_ms.get(uuid, 0) < least_ms), "")


def _less_gpus(state: ShareState, span: EnergyInterval, use: _Use) -> tuple[ShareState, EnergyInterval]:
    """Return the span to split: a host's as it is, a wall's less its GPUs and less what is owed."""
    if span.hardware != WALL_LESS_GPUS:
        return state, span
    rest_uj = span.energy_uj - use.gpu_uj
    paid_uj = min(rest_uj, state.owed_uj)
    method = max(span.method, use.method, Method.ESTIMATED if paid_uj else Method.COUNTER)
    state = msgspec.structs.replace(state, owed_uj=state.owed_uj - paid_uj)
    return state, replace(span, energy_uj=rest_uj - paid_uj, method=method)


def _weights(use: _Use, shares: Mapping[str, GpuShares], unallocated: Binding) -> dict[Binding, int]:
    for amounts in (use.energy_uj, use.held_ms):
        if weights := {binding: amount for binding, amount in amounts.items() if amount > 0}:
            return weights
    now: dict[Binding, int] = {}
    for gpu_shares in shares.values():
        weights = binding_weights(gpu_shares)
        for binding, part in zip(weights, apportion(1_000, list(weights.values())), strict=True):
            now[binding] = now.get(binding, 0) + part
    return {binding: part for binding, part in now.items() if part} or {unallocated: 1}


def _parts(span: EnergyInterval, weights: Mapping[Binding, int]) -> list[tuple[Binding, EnergyInterval]]:
    shares = tuple(BindingShare(binding, weight) for binding, weight in weights.items())
    parts = list(split_intervals([span], shares))
    assert sum(part.energy_uj for _, part in parts) == span.energy_uj
    return parts


def _energy_uj(interval: EnergyInterval, from_ms: int, to_ms: int) -> int:
    """Return the energy of a stretch of an interval. Adjacent stretches sum to the whole exactly."""
    span_ms = interval.t1_ms - interval.t0_ms
    upto, before = (interval.energy_uj * (t_ms - interval.t0_ms) // span_ms for t_ms in (to_ms, from_ms))
    return upto - before


def _cut(span: EnergyInterval, at_ms: int) -> tuple[EnergyInterval, EnergyInterval]:
    return (
        replace(span, t1_ms=at_ms, energy_uj=_energy_uj(span, span.t0_ms, at_ms)),
        replace(span, t0_ms=at_ms, energy_uj=_energy_uj(span, at_ms, span.t1_ms)),
    )


def _without_past(state: ShareState, to_ms: int, shares: Mapping[str, GpuShares]) -> ShareState:
    """Return the state without what no span after a moment needs: intervals before it, and GPUs that left."""
    intervals = {
        uuid: left for uuid, held in state.intervals.items() if (left := tuple(h for h in held if h[0].t1_ms > to_ms))
    }
    covered_to_ms = {uuid: t_ms for uuid, t_ms in state.covered_to_ms.items() if uuid in shares or uuid in intervals}
    return msgspec.structs.replace(state, intervals=intervals, covered_to_ms=covered_to_ms)


def _coarsened(held: tuple[HeldInterval, ...]) -> tuple[HeldInterval, ...]:
    """Return the intervals of a GPU; too many of them are merged in pairs, or the oldest left out."""
    if len(held) <= MAX_INTERVALS:
        return held
    merged: list[HeldInterval] = []
    for number, (interval, shares) in enumerate(held):
        last = merged[-1] if merged and number % 2 else None
        if last and last.shares == shares and _are_mergeable(last.interval, interval):
            merged[-1] = HeldInterval(merge_intervals(last.interval, interval), shares)
        else:
            merged.append(HeldInterval(interval, shares))
    return tuple(merged[-MAX_INTERVALS:])


def _merged_pairs(spans: Sequence[EnergyInterval]) -> list[EnergyInterval]:
    merged: list[EnergyInterval] = []
    for number, span in enumerate(spans):
        if merged and number % 2 and _are_mergeable(merged[-1], span):
            merged[-1] = merge_intervals(merged[-1], span)
        else:
            merged.append(span)
    return merged


def _are_mergeable(a: EnergyInterval, b: EnergyInterval, max_ms: int = MAX_SPAN_MS) -> bool:
    is_own_time = Method.CORRECTION not in (a.method, b.method)
    return is_own_time and a.t1_ms == b.t0_ms and b.t1_ms - a.t0_ms <= max_ms


def _place(span: EnergyInterval) -> str:
    return f"{span.energy_uj / UJ_PER_J:.0f} J of {(span.t1_ms - span.t0_ms) / 1000:g} s up to {span.t1_ms}"
