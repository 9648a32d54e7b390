"""Meters of a node: readings to spans of its energy, by counters or by watts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from contracts.boundary import HOST
from contracts.errors import Unavailable
from contracts.events import Method
from producers.boundary.reading import Reader, Value
from producers.gpu.meter import MAX_GAP_MS, MAX_HOLD_MS, add_reading
from producers.gpu.meter_state import MeterState
from producers.gpu.plausibility import implausible_value, milliwatts
from producers.gpu.readings import EnergyInterval, GpuReading
from producers.host.energy import HostCounterSnapshot
from producers.host.source import HostCounters, ZoneReadings, delta_since
from producers.runtime.clock import Clock
from producers.runtime.refusals import ItemRefusal, at_place, refusal


class NodeDevice(NamedTuple):
    """Device on the log that a node's energy beside its GPUs is of."""

    gpu_uuid: str
    hardware: str


def device_of(node: str, hardware: str) -> NodeDevice:
    """Return the device of a node's host or wall."""
    return NodeDevice(f"{'host' if hardware == HOST else 'wall'}-{node}", hardware)


class NodeSpans(NamedTuple):
    """Spans since the last call, the meter's new state, and a sentence on all that is unknown."""

    spans: Sequence[EnergyInterval]
    state: bytes
    refused: Sequence[str] = ()


class NodeMeter(Protocol):
    """Meter of a node's host or wall. `source` is the name of the source in the settings."""

    @property
    def source(self) -> str: ...
    @property
    def device(self) -> NodeDevice: ...
    def measure(self, state: bytes, clock: Clock, /) -> NodeSpans:
        """Return the energy since a state; b"" is that of a beginning."""
        ...


class CounterReading(NamedTuple):
    """Counters that were read, and their reader, which knows their ranges."""

    counters: HostCounters
    zones: ZoneReadings


class LazyCounters:
    """Counters that are opened at the first reading, so that a node without them still meters its GPUs."""

    def __init__(self, open_counters: Callable[[], HostCounters], prefixes: tuple[str, ...]) -> None:
        self._open, self._prefixes = open_counters, prefixes
        self._counters: HostCounters | None = None

    def read(self) -> CounterReading:
        """Read the zones whose names begin with one of the prefixes. Raises Unavailable where there are none."""
        if self._counters is None:
            self._counters = self._open()
        readings = self._counters.read()
        zones = ZoneReadings(self._of(readings.counters_uj), self._of(readings.failures))
        if not (zones.counters_uj or zones.failures):
            seen = ", ".join(sorted(readings.counters_uj))
            raise Unavailable(
                f"{self._counters.source} has no {' or '.join(self._prefixes)}, but {seen}", "Choose another source."
            )
        return CounterReading(self._counters, zones)

    def _of(self, values: Mapping[str, Value]) -> dict[str, Value]:
        return {zone: value for zone, value in values.items() if zone.startswith(self._prefixes)}


@dataclass(frozen=True)
class CounterMeter:
    """Meter by counters that add up. `boot` identifies this run of the machine."""

    source: str
    device: NodeDevice
    reader: Reader[CounterReading]
    boot: str
    max_zone_w: float

    def measure(self, state: bytes, clock: Clock) -> NodeSpans:
        """Return the energy since a state: zones that were read at the same moments are one span."""
        since = self.reader(clock)
        refused: list[str] = [refusal(error) for error in since.failures]
        spans: list[EnergyInterval] = []
        before = msgspec.msgpack.decode(state, type=HostCounterSnapshot) if state else None
        for at, (counters, zones) in since.readings:
            delta = delta_since(before, counters, zones, at, self.boot, self.max_zone_w)
            before = delta.snapshot
            refused += [*delta.unknown, *(at_place(zone, reason) for zone, reason in zones.failures.items())]
            sums: dict[tuple[int, int], int] = {}
            for zone in delta.energy:
                span = zone.t0_ms, zone.t1_ms
                sums[span] = sums.get(span, 0) + zone.energy_uj
            spans += [
                EnergyInterval(*self.device, t0_ms, t1_ms, energy_uj, Method.COUNTER)
                for (t0_ms, t1_ms), energy_uj in sorted(sums.items())
            ]
        return NodeSpans(spans, msgspec.msgpack.encode(before) if before else b"", refused)


@dataclass(frozen=True)
class WattsMeter:
    """Meter by watts, which are integrated. `period_ms` is how often they are read.

    Watts that have been the same for MAX_HOLD_MS are those of a sensor that stands: they are unknown.
    """

    source: str
    device: NodeDevice
    reader: Reader[float]
    period_ms: int

    def measure(self, state: bytes, clock: Clock) -> NodeSpans:
        """Return the energy since a state. After a gap it begins anew: nothing is invented in it."""
        since = self.reader(clock)
        refused: list[str] = [refusal(error) for error in since.failures]
        spans: list[EnergyInterval] = []
        meter = msgspec.msgpack.decode(state, type=MeterState) if state else None
        for at, watts in since.readings:
            is_stale = meter is not None and _is_stale(meter, watts, at.monotonic_ms)
            reading = GpuReading(
                *self.device, at.event_ms, at.monotonic_ms, watts=None if is_stale else watts, period_ms=self.period_ms
            )
            if is_stale:
                refused.append(
                    ItemRefusal(f"{watts:g} W have not changed for {MAX_HOLD_MS // 60_000} minutes", "stale")
                )
            elif value := implausible_value(reading, meter.peak_mw if meter else 0):
                refused.append(f"{value} is implausible, and taken as unknown")
            before_ms = meter.run_to.monotonic_ms if meter and meter.run_to else at.monotonic_ms
            result = add_reading(meter, reading, max_gap_ms=MAX_GAP_MS)
            meter, spans = result.state, [*spans, *result.intervals]
            if result.gaps:
                gap_s = (at.monotonic_ms - before_ms) / 1000
                refused.append(ItemRefusal(f"nothing was read for {gap_s:g} s up to {at.event_ms}", "gap"))
        return NodeSpans(spans, msgspec.msgpack.encode(meter) if meter else b"", refused)


def _is_stale(meter: MeterState, watts: float, now_ms: int) -> bool:
    """Return True for watts that are those of MAX_HOLD_MS ago, and of every reading since."""
    moved_at = meter.watts_at
    return moved_at is not None and milliwatts(watts) == meter.run_mw and now_ms - moved_at.monotonic_ms > MAX_HOLD_MS
