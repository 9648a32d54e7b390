"""The plan of a seed: its settings, its traffic, its faults.

Each seed leaves out most kinds of faults and overdoes some (swarm testing: Groce et al., ISSTA 2012). A mixture of all
faults in every run hides the effect of two faults together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from contracts.settings import Settings
from tests.simulation.broker import SESSION_MS
from tests.simulation.store import Fates
from tests.simulation.traffic import Mix
from tests.simulation.worker import Ways

Kind = Literal[
    "kill", "kill soon", "kill at a write", "pause", "pause soon", "pause at a write", "isolate", "clock steps", "join",
    "leave", "store away", "log stalls",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

WRITES = ("claim_put", "write gpu_energy", "write ledger", "write request_energy", "refresh_hours", "write marks")
GREATEST_PAUSE_MS = 9_000.0
"""Longer than a session and a rebalance together: a process that pauses for this long has lost its partitions."""


_SETTINGS = Settings(window_ms=1_000, session_timeout_ms=int(SESSION_MS))


@dataclass(frozen=True)
class Fault:
    """An event at a time, in some worker, the store or the log."""

    at_ms: float
    kind: Kind
    for_ms: float = 0.0
    """Its duration; for a clock, the step forward or back."""
    steps: int = 0
    """Number of the worker's steps before it happens ("soon"), or of steps after a request was sent ("at a write")."""
    write: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything about one simulation that its seed decides beforehand."""

    seed: int
    partitions: int
    workers: int
    settings: Settings
    mix: Mix
    fates: Fates
    ways: Ways
    faults: tuple[Fault, ...]
    clock_off_ms: int
    """Largest error of the workers' clocks, either way."""
    floors: dict[str, int]
    chaos_ms: float
    """After this no more faults occur."""


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(f"plan {seed}")

    def maybe(share: float, *values: float) -> float:
        return rng.choice(values) if rng.random() < share else 0.0

    skew_ms = rng.choice((0, 300, 500))
    clock_off_ms = int(maybe(0.3, skew_ms // 2))
    faults = _faults(rng, chaos_ms := rng.choice((4_000.0, 8_000.0, 16_000.0)))
    stepped_ms = sum(abs(f.for_ms) for f in faults if f.kind == "clock steps")
    settings = _SETTINGS.model_copy(
        update={
            "lateness_ms": rng.choice((0, 500, 2_000)), "skew_ms": skew_ms,
            "idle_timeout_ms": rng.choice((700, 2_000, 3_000)), "provisional_ms": rng.choice((1_000, 2_000, 4_000)),
            "batch_messages": rng.choice((1, 2, 3, 8)), "batch_wait_ms": rng.choice((200, 500, 1_000)),
            "idle_policy": rng.choice(("by-work", "by-work", "owner", "apart")),
            # Sometimes below what settings allow, so that few rows reach the bound.
            "max_open_rows": rng.choice((70, 200, 500)) if rng.random() < 0.15 else 4_000_000,
        }
    )  # fmt: skip
    # Generators of their own, here and for hosts, so that the other draws of a seed stay the same.
    if Random(f"requests {seed}").random() < 0.2:
        settings = settings.model_copy(update={"requests": "none"})
    mix = Mix(
        events=rng.randrange(4, 22), windows=rng.randrange(2, 8), skew_ms=skew_ms,
        late=maybe(0.5, 0.1, 0.4), late_ms=rng.choice((3_000.0, 10_000.0)), twice=maybe(0.4, 0.1, 0.4),
        empty=maybe(0.2, 0.1, 0.5),
        disorder_ms=rng.choice((10.0, 300.0, 1_500.0)), skewed=maybe(0.3, 0.5, 1.0), future=maybe(0.2, 0.1, 0.3),
        poison=maybe(0.25, 0.1, 0.3), beats=maybe(0.5, 0.1, 0.4), json=maybe(0.2, 0.5),
        worker_behind_ms=clock_off_ms + math.ceil(stepped_ms), hosts=Random(f"hosts {seed}").random() < 0.3,
    )  # fmt: skip
    fates = Fates(
        before=maybe(0.3, 0.05, 0.3), during=maybe(0.3, 0.05, 0.3), after=maybe(0.3, 0.05, 0.3),
        ghost=maybe(0.3, 0.05, 0.2), slow=maybe(0.3, 0.05, 0.4),
        slow_ms=rng.choice((500.0, 3_000.0, 9_000.0)), quick_ms=rng.choice((2.0, 20.0, 200.0)),
    )  # fmt: skip
    ways = Ways(
        lost_commits=maybe(0.3, 0.3, 0.9), lost_letters=maybe(0.3, 0.1, 0.5), fetch_ms=rng.choice((1.0, 20.0, 300.0)),
        commit_every_s=rng.choice((0.3, 1.0, 2.0)), commit_on_leaving=rng.random() < 0.5, overlapping=maybe(0.2, 0.5),
        dropped=maybe(0.2, 0.05, 0.3), vouching=rng.random() < 0.5,
    )  # fmt: skip
    workers = rng.choice((1, 1, 2, 3))
    return Plan(
        seed=seed,
        partitions=rng.choice((1, 1, 2, 3)),
        workers=workers,
        settings=settings,
        mix=mix,
        fates=fates,
        ways=ways,
        faults=faults,
        clock_off_ms=clock_off_ms,
        floors={"H100": 90_000, "A100": 55_000} if rng.random() < 0.7 else {},
        chaos_ms=chaos_ms,
    )


def _faults(rng: Random, chaos_ms: float) -> tuple[Fault, ...]:
    """A few faults of a few kinds, at any time."""
    enabled = [k for k in KINDS if rng.random() < 0.3]
    faults = []
    for _ in range(rng.choice((0, 1, 2, 3, 4, 6)) if enabled else 0):
        kind, at_ms = rng.choice(enabled), rng.uniform(0.0, chaos_ms)
        longest = chaos_ms if kind == "store away" else GREATEST_PAUSE_MS
        for_ms = rng.uniform(200.0, longest)
        if kind == "clock steps":
            for_ms = rng.choice((-1, 1)) * rng.uniform(100.0, 3_000.0)
        steps, write = 0, ""
        if kind.endswith("soon"):
            steps = rng.randrange(60)
        elif kind.endswith("write"):
            steps, write = rng.randrange(6), rng.choice(WRITES)
        faults.append(Fault(at_ms, kind, for_ms, steps, write))
    return tuple(sorted(faults, key=lambda f: f.at_ms))
