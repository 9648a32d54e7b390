"""Evidence on which server answers at an address: start times of processes that stand, advance or go back. Pure.

A restart is a start since the last reading. A process that started before the last reading, at which another one
answered, ran beside that one: the address passed to another server, or the clocks differ, and nothing is known of what
it counted so far. When start times go back, as they must where servers alternate, the address is a Service of several
servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

SAME_START_MS, TICK_MS = 1_500, 20
"""Difference up to which start times are of one process, and what its part of a second may differ by: a start is ticks
of 10 ms after the machine's boot, which moves by whole seconds when the clock is adjusted."""
CLOCK_MS = 2_000
"""Difference of two machines' clocks within which a start counts as after a reading."""
STILL_MS = 3_600_000
"""Time after which the last sign of several servers is over."""
SEVERAL_HINT = (
    "this is a Service in front of several pods: scrape the pods ([[produce.servers.pods]], or each by its address)"
)


class ProcessChanges(NamedTuple):
    """Processes of a page that started since the last reading.

    `replaced` are those of `restarted` whose earlier start is known. `doubtful` ones took the place of another process,
    and started before the last reading. `same` ones go on, by a start time that tells them from others of the same
    second. `several` is a sentence, where several servers answer at this address.
    """

    restarted: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    same: frozenset[str] = frozenset()
    several: str = ""


def process_changes(before: Mapping[str, int], now: Mapping[str, int], last_ms: int) -> ProcessChanges:
    """Compare the start times (epoch ms) by process of two readings, of which the first was at `last_ms`."""
    restarted, replaced, doubtful, same = set[str](), set[str](), set[str](), set[str]()
    several = ""
    for process, start_ms in now.items():
        known_ms = before.get(process)
        if known_ms is None:
            if start_ms >= last_ms - CLOCK_MS:
                restarted.add(process)
        elif _is_same(start_ms, known_ms):
            if start_ms % 1000 and abs(start_ms - known_ms) <= TICK_MS:
                same.add(process)
        elif start_ms < known_ms:
            several = f"its start time went back from {time_text(known_ms)} to {time_text(start_ms)}"
        elif start_ms >= last_ms - CLOCK_MS:
            restarted.add(process)
            replaced.add(process)
        else:
            doubtful.add(process)
    return ProcessChanges(frozenset(restarted), frozenset(replaced), frozenset(doubtful), frozenset(same), several)


def _is_same(start_ms: int, known_ms: int) -> bool:
    """Return whether two start times may be of one process."""
    apart_ms = abs(start_ms - known_ms)
    return apart_ms <= SAME_START_MS and (apart_ms + TICK_MS) % 1000 <= 2 * TICK_MS


def time_text(t_ms: int) -> str:
    """Return a time for people."""
    return datetime.fromtimestamp(t_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
