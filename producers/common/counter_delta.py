"""Use of containers, pods and interfaces between two snapshots of their counters and levels. Pure.

An object has counters, which only grow while it lives, and levels, such as memory in use. The growth of a counter is
exact. A level is integrated by the trapezoid rule between two snapshots of the same object.

* The first snapshot only begins.

* An object that the last snapshot did not have started since then: its counters are its use. If the last snapshot
  covered other objects (`scope`), a new one only begins.

* An object that is missing for up to a day and returns is the same one.

* A counter that went back began anew (a container restarted): its count is the use since then. What it counted between
  the last snapshot and its end is unknown.

* After a restart of the machine (`boot`), every object is new.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

MAX_OBJECTS = 10_000
"""Objects of one node that are remembered: more than any runs."""
FORGET_MS = 86_400_000


class ObjectCounters(msgspec.Struct, frozen=True):
    """Counters and levels of one object by name, at `t_ms` (UTC epoch ms).

    `life` identifies a life of the object (an inode, a uid): counters of another life begin anew. It is "" where the
    source does not say.
    """

    t_ms: int
    counters: dict[str, int]
    levels: dict[str, int]
    life: str = ""


class CounterSnapshot(msgspec.Struct, frozen=True):
    """Objects by name. `boot` identifies the run of the machine, `scope` the selection of objects. Stored as the
    source's checkpoint."""

    t_ms: int
    boot: str
    scope: str
    objects: dict[str, ObjectCounters] = msgspec.field(name="things")  # the name in stored checkpoints


class CounterDelta(NamedTuple):
    """Use of an object over `[t0_ms, t1_ms)`: `counters` in each counter's unit, `levels` in each level's unit x ms."""

    name: str
    t0_ms: int
    t1_ms: int
    counters: dict[str, int]
    levels: dict[str, Decimal]


class DeltaResult(NamedTuple):
    """`snapshot` is the next `before`; `resets` is the number of counters that went back."""

    snapshot: CounterSnapshot
    deltas: list[CounterDelta]
    resets: int


def counter_deltas(before: CounterSnapshot | None, now: CounterSnapshot) -> DeltaResult:
    """Return the use of each object since the last snapshot.

    Where the clock was set back, the growth is reported with a length of 0 at the time of `now`, and levels wait for
    the next snapshot.
    """
    if before is None:
        return DeltaResult(now, [], 0)
    known = before.objects if now.boot == before.boot else {}
    objects = dict(now.objects)
    deltas, resets = [], 0
    for name, current in sorted(now.objects.items()):
        last = known.get(name)
        if last is not None and last.life != current.life:
            last = None
        if last is None and now.scope != before.scope:
            continue
        if last is not None:  # A counter that is left out once is not counted again when it returns.
            objects[name] = msgspec.structs.replace(current, counters=last.counters | current.counters)
        counted = last.counters if last else {}
        reset = {c for c, value in current.counters.items() if value < counted.get(c, 0)}
        resets += len(reset)
        counters = {c: value - (0 if c in reset else counted.get(c, 0)) for c, value in current.counters.items()}
        t0_ms = min(last.t_ms if last else before.t_ms, current.t_ms)
        levels = _integrated_levels(last, current, current.t_ms - t0_ms)
        deltas.append(CounterDelta(name, t0_ms, current.t_ms, counters, levels))
    objects = {**_missing(known, now), **objects}
    return DeltaResult(CounterSnapshot(now.t_ms, now.boot, now.scope, objects), deltas, resets)


def _missing(known: dict[str, ObjectCounters], now: CounterSnapshot) -> dict[str, ObjectCounters]:
    """Return the objects to remember that are not in this snapshot: the latest, for a day."""
    missing = {n: o for n, o in known.items() if n not in now.objects and now.t_ms - o.t_ms < FORGET_MS}
    free = max(MAX_OBJECTS - len(now.objects), 0)
    latest = sorted(missing, key=lambda name: missing[name].t_ms, reverse=True)[:free]
    return {name: missing[name] for name in latest}


def _integrated_levels(last: ObjectCounters | None, now: ObjectCounters, length_ms: int) -> dict[str, Decimal]:
    levels = last.levels if last else {}
    return {
        name: Decimal((levels[name] + value) * length_ms) / 2 for name, value in now.levels.items() if name in levels
    }
