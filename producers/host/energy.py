"""Two looks at a host's energy counters to rows. Pure: looks in, rows out; no clock, no I/O.

A RAPL counter counts microjoules and begins at 0 again beyond its range, every few minutes under load. What was used is
the difference of two looks modulo the range, if the counter cannot have gone round once more meanwhile: that follows
from the time between the looks and `max_zone_w`, more than any zone draws. Where the counter could have gone round an
unknown number of times, or has leapt, what was used is not known: it is told, and no row is made of it.

The modulus is the range that the kernel gives; the counter's own is one unit larger (61 uJ on Intel, 15 uJ on AMD).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from contracts.events import MAX_SPAN_MS
from producers.gpu.intervals import ClockPoint, interval_start_ms, next_event_time

GRAIN_MS = 1_000
"""What a counter may hold back from one look, and show at the next."""
UJ_PER_W_MS = 1_000


class CounterRange(NamedTuple):
    """How far a zone's counter counts. `wraps`: it begins at 0 again by itself; else whoever reads it (zeusd) unrolls
    it, as long as it is asked at least once a round."""

    uj: int
    wraps: bool = True


class HostCounterSnapshot(msgspec.Struct, frozen=True):
    """Where a host's counters stood: uJ by zone, at a moment of event time. `boot` names the run of the machine:
    counters and the monotonic clock begin anew with each."""

    boot: str
    monotonic_ms: int
    event_ms: int
    counters_uj: dict[str, int]

    @property
    def at(self) -> ClockPoint:
        return ClockPoint(self.monotonic_ms, self.event_ms)


class ZoneEnergy(NamedTuple):
    """What a zone used over `[t0_ms, t1_ms)`."""

    zone: str
    t0_ms: int
    t1_ms: int
    energy_uj: int


class HostEnergyDelta(NamedTuple):
    """The look to go on from, what was used up to it, and what of it cannot be known."""

    look: HostCounterSnapshot
    used: tuple[ZoneEnergy, ...] = ()
    unknown: tuple[str, ...] = ()


def energy_since(
    before: HostCounterSnapshot | None, now: HostCounterSnapshot, ranges: Mapping[str, CounterRange], max_zone_w: float
) -> HostEnergyDelta:
    """Takes a look; the first one after a start of the machine only begins. So does a zone that comes back."""
    if before is None or before.boot != now.boot:
        return HostEnergyDelta(now)
    if now.monotonic_ms <= before.monotonic_ms:
        return HostEnergyDelta(before)
    at, _ = next_event_time(before.at, now.at)
    t0_ms = interval_start_ms(before.at, at)
    elapsed_ms = at.monotonic_ms - before.monotonic_ms
    used: list[ZoneEnergy] = []
    unknown: list[str] = []
    for zone, stood in before.counters_uj.items():
        if zone in now.counters_uj:
            energy_uj, why = counter_energy_uj(stood, now.counters_uj[zone], ranges[zone], elapsed_ms, max_zone_w)
        else:
            energy_uj, why = None, "its counter is no longer shown"
        if energy_uj is None:
            unknown.append(f"{zone}, {elapsed_ms / 1000:.0f} s up to {at.event_ms}: {why}")
        else:
            used.extend(_split(ZoneEnergy(zone, t0_ms, at.event_ms, energy_uj)))
    return HostEnergyDelta(
        HostCounterSnapshot(now.boot, at.monotonic_ms, at.event_ms, now.counters_uj), tuple(used), tuple(unknown)
    )


def counter_energy_uj(
    stood: int, stands: int, counts: CounterRange, elapsed_ms: int, max_zone_w: float
) -> tuple[int | None, str]:
    """The energy in uJ between two readings of a counter; None, and why, where it is not known."""
    most_uj = round(max_zone_w * (elapsed_ms + GRAIN_MS) * UJ_PER_W_MS)
    delta = stands - stood
    if delta < 0 and not counts.wraps:
        return None, "its counter began anew"
    if not (0 <= stood <= counts.uj and 0 <= stands <= counts.uj) and counts.wraps:
        return None, f"its counter is beyond its range of {counts.uj} uJ"
    least = delta % counts.uj if counts.wraps else delta
    if least > most_uj:
        return None, f"its counter leapt by {least} uJ, more than {max_zone_w:g} W can use"
    if least + counts.uj <= most_uj:
        return None, (
            f"its counter goes round every {counts.uj} uJ and may have done so more than once: "
            "look at it more often (`every_s`), or lower `max_zone_w` to what a zone draws at most"
        )
    return least, ""


def _split(used: ZoneEnergy) -> Iterator[ZoneEnergy]:
    """In parts of at most MAX_SPAN_MS whose energy sums to the whole."""
    span = used.t1_ms - used.t0_ms
    for start in range(0, span, MAX_SPAN_MS):
        end = min(start + MAX_SPAN_MS, span)
        part = used.energy_uj * end // span - used.energy_uj * start // span
        yield ZoneEnergy(used.zone, used.t0_ms + start, used.t0_ms + end, part)
