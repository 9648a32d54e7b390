"""How a GPU's interval is split among those that share the GPU. Pure; exact in microjoules and in GPU-milliseconds.

The board's energy is one number, and nothing measures who used which part of it. So the split is a stated rule, by
weights (`producers.bindings.assignment`): the interval is cut into consecutive parts in proportion to them, [t0, a)
for the first holder, [a, b) for the next ..., and its energy likewise. A part is an interval like any other: its
energy and its GPU-seconds add up with the others' to the whole, and the log needs no new column. At a window's edge
that is true to within one interval; so long ones are cut into pieces of PIECE_MS first, and each piece is split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from producers.gpu.intervals import EnergyInterval, split_interval

PIECE_MS = 2_000
"""A shared interval that is longer is cut first, so that in a window of 10 s every holder has energy."""
MAX_PIECES = 512
"""Made of the intervals that are split together, beyond one each: after hours without an agent, or without a broker and
a disk, pieces are longer instead of more."""


@dataclass(slots=True, frozen=True)
class Binding:
    """Which workload holds a GPU, and which tenant pays when that is idle ("": nobody)."""

    workload: str
    owner: str = ""


@dataclass(slots=True, frozen=True)
class BindingShare:
    """A holder's part of a GPU: `weight` of the sum of all weights. `about` says more of the holder, for the record."""

    binding: Binding
    weight: int = 1
    about: tuple[tuple[str, str], ...] = ()


GpuShares = tuple[BindingShare, ...]
"""Who holds a GPU: at least one share. The parts of an interval come in this order."""


def binding_weights(holding: GpuShares) -> dict[Binding, int]:
    """Each binding with its weight: two pods of a workload on one GPU are one holder of its energy."""
    found: dict[Binding, int] = {}
    for share in holding:
        found[share.binding] = found.get(share.binding, 0) + share.weight
    return found


def split_intervals(
    intervals: Sequence[EnergyInterval], holding: GpuShares
) -> Iterator[tuple[Binding, EnergyInterval]]:
    """The parts of intervals, each with whom it goes to. A piece that is shorter in ms than it has holders goes to
    those with the greatest weights."""
    weights = binding_weights(holding)
    if len(weights) == 1:
        (alone,) = weights
        yield from ((alone, interval) for interval in intervals)
        return
    span_ms = sum(interval.t1_ms - interval.t0_ms for interval in intervals)
    piece_ms = max(PIECE_MS, -(-span_ms // MAX_PIECES))
    for interval in intervals:
        for piece in split_interval(interval, piece_ms):
            yield from _parts(piece, weights)


def apportion(total: int, weights: Sequence[int]) -> list[int]:
    """A whole in proportion to weights, by largest remainder: the parts sum to it. Of equal remainders the first gets
    more."""
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_rest = sorted(range(len(weights)), key=lambda i: -(total * weights[i] % whole))
    for i in by_rest[: total - sum(parts)]:
        parts[i] += 1
    return parts


def _parts(piece: EnergyInterval, weights: dict[Binding, int]) -> Iterator[tuple[Binding, EnergyInterval]]:
    span = piece.t1_ms - piece.t0_ms
    if span < len(weights):
        greatest = sorted(weights, key=lambda b: -weights[b])[:span]
        weights = {b: w for b, w in weights.items() if b in greatest}
    spans = _spans(piece.t0_ms, piece.t1_ms, list(weights.values()))
    energies = apportion(piece.energy_uj, list(weights.values()))
    busy = apportion(piece.busy_ms, spans) if piece.busy_ms >= 0 else [-1] * len(spans)
    t_ms = piece.t0_ms
    for binding, part_ms, energy_uj, busy_ms in zip(weights, spans, energies, busy, strict=True):
        yield binding, replace(piece, t0_ms=t_ms, t1_ms=t_ms + part_ms, energy_uj=energy_uj, busy_ms=busy_ms)
        t_ms += part_ms


def _spans(t0_ms: int, t1_ms: int, weights: Sequence[int]) -> list[int]:
    """How long each part is: at least a millisecond, and in sum the piece. Cut where time itself, counted from 1970, is
    cut in these proportions: so what one piece rounds away the next gives back, and no holder's time ever drifts."""
    whole, upto = sum(weights), list(accumulate(weights))
    ends = [t1_ms * w // whole - t0_ms * w // whole for w in upto]
    spans = [end - before for before, end in pairwise((0, *ends))]
    while min(spans) < 1:
        spans[spans.index(max(spans))] -= 1
        spans[spans.index(min(spans))] += 1
    return spans
