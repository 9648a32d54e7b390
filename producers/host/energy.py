"""Energy between two snapshots of a host's RAPL counters. Pure: snapshots in, energy out; no clock, no I/O.

A RAPL counter counts microjoules and begins at 0 again beyond its range, every few minutes under load. The energy is
the difference of two snapshots modulo the range, provided that the counter cannot have wrapped once more in between.
That follows from the time between the snapshots and `max_zone_w`, more watts than any zone draws. Where the counter may
have wrapped an unknown number of times, or has leapt, the energy is unknown: that is reported, and no row is made.

The modulus is the range that the kernel gives; the counter's own is one unit larger (61 uJ on Intel, 15 uJ on AMD).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import msgspec

from contracts.events import MAX_SPAN_MS
from producers.gpu.event_time import ClockPoint, interval_start_ms, next_event_time

GRAIN_MS = 1_000
"""Energy that a counter may hold back from one snapshot and show at the next, as time."""
STANDING_MS = 60_000
"""Time after which a counter that does not move is told: a zone of a node that runs draws something."""
UJ_PER_W_MS = 1_000


class CounterRange(NamedTuple):
    """Range of a zone's counter in microjoules.

    `wraps` is True for a counter that begins at 0 again. It is False where the reader (zeusd) unrolls the counter, as
    long as it is asked at least once a round.
    """

    uj: int
    wraps: bool = True


class ZoneCounter(NamedTuple):
    """Counter of one zone at a moment of its own."""

    monotonic_ms: int
    event_ms: int
    uj: int


class HostCounterSnapshot(msgspec.Struct, frozen=True):
    """Counters of a host in uJ by zone, at a moment of event time. Stored as the source's checkpoint.

    `boot` identifies the run of the machine: counters and the monotonic clock begin anew with each. `unread` are zones
    that could not be read at that moment, with their last counters.
    """

    boot: str
    monotonic_ms: int
    event_ms: int
    counters_uj: dict[str, int]
    unread: dict[str, ZoneCounter] = {}

    @property
    def at(self) -> ClockPoint:
        return ClockPoint(self.monotonic_ms, self.event_ms)


class ZoneEnergy(NamedTuple):
    """Energy of a zone over `[t0_ms, t1_ms)`."""

    zone: str
    t0_ms: int
    t1_ms: int
    energy_uj: int


class HostEnergyDelta(NamedTuple):
    """Energy since the last snapshot. `snapshot` is the next `before`; `unknown` describes energy that is unknown."""

    snapshot: HostCounterSnapshot
    energy: tuple[ZoneEnergy, ...] = ()
    unknown: tuple[str, ...] = ()


def energy_since(
    before: HostCounterSnapshot | None, now: HostCounterSnapshot, ranges: Mapping[str, CounterRange],
    max_zone_w: float, failed: Collection[str] = (),
) -> HostEnergyDelta:  # fmt: skip
    """Return the energy of each zone since the last snapshot.

    The first snapshot after a start of the machine only begins. So does a zone that was not shown. A zone whose reading
    `failed`, or whose counter stands, keeps its last counter: its next advance covers the time.
    """
    if before is None or before.boot != now.boot:
        return HostEnergyDelta(now)
    if now.monotonic_ms <= before.monotonic_ms:
        return HostEnergyDelta(before)
    at, _ = next_event_time(before.at, now.at)
    energy: list[ZoneEnergy] = []
    unknown: list[str] = []
    unread: dict[str, ZoneCounter] = {}
    last_counters = {
        zone: ZoneCounter(before.monotonic_ms, before.event_ms, uj) for zone, uj in before.counters_uj.items()
    }
    for zone, last in (last_counters | before.unread).items():
        if zone in failed:
            unread[zone] = last
            continue
        begin = ClockPoint(last.monotonic_ms, last.event_ms)
        elapsed_ms = at.monotonic_ms - begin.monotonic_ms
        if now.counters_uj.get(zone) == last.uj:
            unread[zone] = last
            if elapsed_ms >= STANDING_MS:
                unknown.append(f"{zone}: its counter has stood for {elapsed_ms / 1000:.0f} s, so its energy is unknown")
            continue
        if zone in now.counters_uj:
            energy_uj, reason = counter_energy_uj(last.uj, now.counters_uj[zone], ranges[zone], elapsed_ms, max_zone_w)
        else:
            energy_uj, reason = None, "its counter is no longer shown"
        if energy_uj is None:
            unknown.append(f"{zone}, {elapsed_ms / 1000:.0f} s up to {at.event_ms}: {reason}")
        else:
            energy.extend(_split(ZoneEnergy(zone, interval_start_ms(begin, at), at.event_ms, energy_uj)))
    snapshot = HostCounterSnapshot(now.boot, at.monotonic_ms, at.event_ms, now.counters_uj, unread)
    return HostEnergyDelta(snapshot, tuple(energy), tuple(unknown))


def counter_energy_uj(
    last_uj: int, now_uj: int, counter_range: CounterRange, elapsed_ms: int, max_zone_w: float
) -> tuple[int | None, str]:
    """Return the energy in uJ between two values of a counter, or None and the reason why it is unknown."""
    max_uj = round(max_zone_w * (elapsed_ms + GRAIN_MS) * UJ_PER_W_MS)
    delta_uj = now_uj - last_uj
    range_uj = counter_range.uj
    if delta_uj < 0 and not counter_range.wraps:
        return None, "its counter began anew"
    if not (0 <= last_uj <= range_uj and 0 <= now_uj <= range_uj) and counter_range.wraps:
        return None, f"its counter is beyond its range of {range_uj} uJ"
    least_uj = delta_uj % range_uj if counter_range.wraps else delta_uj
    if least_uj > max_uj:
        watts = least_uj / (elapsed_ms + GRAIN_MS) / UJ_PER_W_MS
        return None, (
            f"its counter leapt by {least_uj} uJ, {watts:.0f} W, more than `max_zone_w` ({max_zone_w:g} W): "
            "raise that if the zone draws so much, as a psys may"
        )
    if least_uj + range_uj <= max_uj:
        return None, (
            f"its counter wraps every {range_uj} uJ and may have done so more than once: "
            "read it more often (`every_s`), or lower `max_zone_w` to what a zone draws at most"
        )
    return least_uj, ""


def _split(energy: ZoneEnergy) -> Iterator[ZoneEnergy]:
    """Split into parts of at most MAX_SPAN_MS whose energy sums to the given one."""
    span_ms = energy.t1_ms - energy.t0_ms
    for start in range(0, span_ms, MAX_SPAN_MS):
        end = min(start + MAX_SPAN_MS, span_ms)
        part_uj = energy.energy_uj * end // span_ms - energy.energy_uj * start // span_ms
        yield ZoneEnergy(energy.zone, energy.t0_ms + start, energy.t0_ms + end, part_uj)
