"""Split of a GPU's energy intervals among the holders that share the GPU. Pure; exact in microjoules and milliseconds.

The board's energy is one number, and nothing measures which holder used which part. The split is therefore a stated
rule, by weights (`producers.bindings.resolution`).

An interval is cut into consecutive parts in proportion to the weights, [t0, a) for the first holder, [a, b) for the
next and so on, and its energy likewise. A part is an interval like any other. The energy and GPU-seconds of the parts
sum to the whole, and the log needs no new column. At a window's edge this holds to within one interval, so long
intervals are first cut into pieces of PIECE_MS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from contracts.apportion import apportion
from producers.gpu.readings import EnergyInterval, split_interval

PIECE_MS = 2_000
"""Longest piece of a shared interval, so that every holder has energy in a window of 10 s."""
MAX_PIECES = 512
"""Pieces of all intervals that are split together, beyond one for each interval. After hours without an agent, or
without a broker and a disk, pieces are longer instead of more."""


@dataclass(slots=True, frozen=True)
class Binding:
    """Workload that a GPU's energy goes to, and the tenant that pays when the GPU is idle ("" for none)."""

    workload: str
    owner: str = ""


@dataclass(slots=True, frozen=True)
class BindingShare:
    """Share of a GPU: `weight` of the sum of all weights. `about` describes the holder, for the record."""

    binding: Binding
    weight: int = 1
    about: tuple[tuple[str, str], ...] = ()


GpuShares = tuple[BindingShare, ...]
"""Shares of one GPU, at least one. The parts of an interval have the same order."""


def binding_weights(shares: GpuShares) -> dict[Binding, int]:
    """Return the weight of each binding. Two pods of one workload on a GPU are one binding of its energy."""
    weights: dict[Binding, int] = {}
    for share in shares:
        weights[share.binding] = weights.get(share.binding, 0) + share.weight
    return weights


def split_intervals(intervals: Sequence[EnergyInterval], shares: GpuShares) -> Iterator[tuple[Binding, EnergyInterval]]:
    """Split intervals among the bindings of a GPU, each part with its binding.

    A piece of fewer milliseconds than there are bindings goes to those with the greatest weights.
    """
    weights = binding_weights(shares)
    if len(weights) == 1:
        (only,) = weights
        yield from ((only, interval) for interval in intervals)
        return
    span_ms = sum(interval.t1_ms - interval.t0_ms for interval in intervals)
    piece_ms = max(PIECE_MS, -(-span_ms // MAX_PIECES))
    for interval in intervals:
        for piece in split_interval(interval, piece_ms):
            yield from _parts(piece, weights)


def _parts(piece: EnergyInterval, weights: dict[Binding, int]) -> Iterator[tuple[Binding, EnergyInterval]]:
    span_ms = piece.t1_ms - piece.t0_ms
    if span_ms < len(weights):
        greatest = sorted(weights, key=lambda b: -weights[b])[:span_ms]
        weights = {b: w for b, w in weights.items() if b in greatest}
    spans_ms = _spans_ms(piece.t0_ms, piece.t1_ms, list(weights.values()))
    energies = apportion(piece.energy_uj, list(weights.values()))
    busy = apportion(piece.busy_ms, spans_ms) if piece.busy_ms >= 0 else [-1] * len(spans_ms)
    t_ms = piece.t0_ms
    for binding, part_ms, energy_uj, busy_ms in zip(weights, spans_ms, energies, busy, strict=True):
        yield binding, replace(piece, t0_ms=t_ms, t1_ms=t_ms + part_ms, energy_uj=energy_uj, busy_ms=busy_ms)
        t_ms += part_ms


def _spans_ms(t0_ms: int, t1_ms: int, weights: Sequence[int]) -> list[int]:
    """Return the length of each part: at least 1 ms, and in sum the piece.

    Time itself, counted from 1970, is cut in these proportions. What one piece rounds away the next one returns, so no
    binding's time ever drifts.
    """
    weight_sum, cumulative = sum(weights), list(accumulate(weights))
    ends = [t1_ms * w // weight_sum - t0_ms * w // weight_sum for w in cumulative]
    spans_ms = [end - before for before, end in pairwise((0, *ends))]
    while min(spans_ms) < 1:
        spans_ms[spans_ms.index(max(spans_ms))] -= 1
        spans_ms[spans_ms.index(min(spans_ms))] += 1
    return spans_ms
