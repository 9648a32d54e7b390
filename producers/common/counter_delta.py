"""From one look at counters and levels to the next: what was used between them. Pure.

Things (a container, a pod, a host's interface) come and go, and each has counters, which only grow while it lives, and
levels, which stand somewhere. A counter's growth is exact. A level is integrated by the trapezoid rule, between two
looks at the same thing.

* The first look ever only begins.
* A thing that was not there at the last look has come since: what it has counted is what it used. Not so where other
  things are looked for than at the last look (`scope`): then what is new only begins.
* A thing that is missing for a while and comes back is the same (for a day).
* A counter that went back began anew (a container was restarted): what it has counted is what came since; what it had
  counted between the last look and its end nobody can know.
* After a new start of the machine (`boot`) everything has come since.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec

MAX_OBJECTS = 10_000
"""Of one node, more than any runs."""
FORGET_MS = 86_400_000


class ObjectCounters(msgspec.Struct, frozen=True):
    """Where its counters and levels stand, by name, and when (`t_ms`, UTC epoch ms). `life` names this life of it (an
    inode, a uid): another life begins anew. "" where nobody says."""

    t_ms: int
    counters: dict[str, int]
    levels: dict[str, int]
    life: str = ""


class CounterSnapshot(msgspec.Struct, frozen=True):
    """What stood where. `boot` names the run of the machine, `scope` what was looked for."""

    t_ms: int
    boot: str
    scope: str
    things: dict[str, ObjectCounters]


class CounterDelta(NamedTuple):
    """What a thing used over `[t0_ms, t1_ms)`: `counted` in each counter's unit, `held` in each level's unit x ms."""

    thing: str
    t0_ms: int
    t1_ms: int
    counted: dict[str, int]
    held: dict[str, Decimal]


class DeltaResult(NamedTuple):
    """`look` is the next step's `before`. `resets`: counters that went back."""

    look: CounterSnapshot
    used: list[CounterDelta]
    resets: int


def counter_deltas(before: CounterSnapshot | None, now: CounterSnapshot) -> DeltaResult:
    """What each thing used from one look to the next. A clock that was set back gives the growth no length: it is then
    told at the moment of this look, and levels wait for the next."""
    if before is None:
        return DeltaResult(now, [], 0)
    known = before.things if now.boot == before.boot else {}
    things = dict(now.things)
    used, resets = [], 0
    for name, thing in sorted(now.things.items()):
        old = known.get(name)
        if old is not None and old.life != thing.life:
            old = None
        if old is None and now.scope != before.scope:
            continue
        if old is not None:  # A counter that is left out for once is not counted again.
            things[name] = msgspec.structs.replace(thing, counters=old.counters | thing.counters)
        stood = old.counters if old else {}
        back = {c for c, value in thing.counters.items() if value < stood.get(c, 0)}
        resets += len(back)
        counted = {c: value - (0 if c in back else stood.get(c, 0)) for c, value in thing.counters.items()}
        t0_ms = min(old.t_ms if old else before.t_ms, thing.t_ms)
        used.append(CounterDelta(name, t0_ms, thing.t_ms, counted, _held(old, thing, thing.t_ms - t0_ms)))
    missing = {n: t for n, t in known.items() if n not in now.things and now.t_ms - t.t_ms < FORGET_MS}
    room = max(MAX_OBJECTS - len(now.things), 0)
    latest = sorted(missing, key=lambda n: missing[n].t_ms, reverse=True)[:room]
    kept = {n: missing[n] for n in latest}
    return DeltaResult(CounterSnapshot(now.t_ms, now.boot, now.scope, {**kept, **things}), used, resets)


def _held(old: ObjectCounters | None, thing: ObjectCounters, length_ms: int) -> dict[str, Decimal]:
    known: Mapping[str, int] = old.levels if old else {}
    return {
        name: Decimal((known[name] + value) * length_ms) / 2 for name, value in thing.levels.items() if name in known
    }
