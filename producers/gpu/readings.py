"""Readings of a GPU, and the energy intervals that are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from contracts.events import MAX_SPAN_MS, Method


@dataclass(slots=True, frozen=True)
class GpuReading:
    """One raw reading of a GPU. `counter_mj` is in millijoules, `utilisation` a ratio from 0 to 1; None is unknown.

    `limit_w` is the device's power limit in watts, None if unknown. `period_ms` is how often its values are renewed,
    0 for at each reading: a page of an exporter may be older than the reading.
    """

    gpu_uuid: str
    hardware: str
    t_ms: int
    monotonic_ms: int
    counter_mj: int | None = None
    watts: float | None = None
    utilisation: float | None = None
    limit_w: float | None = None
    period_ms: int = 0


@dataclass(slots=True, frozen=True)
class EnergyInterval:
    """Energy of one GPU over the half-open `[t0_ms, t1_ms)`. `busy_ms` is utilisation x duration, -1 if unknown."""

    gpu_uuid: str
    hardware: str
    t0_ms: int
    t1_ms: int
    energy_uj: int
    method: Method
    busy_ms: int = -1


def merge_intervals(a: EnergyInterval, b: EnergyInterval) -> EnergyInterval:
    """Merge two intervals of one GPU, `a` before `b`. Joules are exact, and the weaker method is kept.

    A merger across a gap between them is ESTIMATED: nothing measured the energy there.
    """
    method = max(a.method, b.method) if a.t1_ms == b.t0_ms else Method.ESTIMATED
    busy_ms = a.busy_ms + b.busy_ms if a.busy_ms >= 0 and b.busy_ms >= 0 else -1
    return EnergyInterval(
        gpu_uuid=a.gpu_uuid,
        hardware=a.hardware,
        t0_ms=a.t0_ms,
        t1_ms=b.t1_ms,
        energy_uj=a.energy_uj + b.energy_uj,
        method=method,
        busy_ms=busy_ms,
    )


def split_interval(interval: EnergyInterval, max_span_ms: int = MAX_SPAN_MS) -> Iterator[EnergyInterval]:
    """Split an interval into parts of at most `max_span_ms`. Energy and busy time of the parts sum to it exactly."""
    span_ms = interval.t1_ms - interval.t0_ms
    energy_uj, busy_ms = interval.energy_uj, interval.busy_ms
    for start in range(0, span_ms, max_span_ms):
        end = min(start + max_span_ms, span_ms)
        yield replace(
            interval,
            t0_ms=interval.t0_ms + start,
            t1_ms=interval.t0_ms + end,
            energy_uj=energy_uj * end // span_ms - energy_uj * start // span_ms,
            busy_ms=busy_ms * end // span_ms - busy_ms * start // span_ms if busy_ms >= 0 else -1,
        )
