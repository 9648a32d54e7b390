"""From a seed, what a simulation is: its settings, its traffic, its faults.

Each seed leaves out most kinds of faults and overdoes some (swarm testing: Groce et al., ISSTA 2012): a mixture of
everything in every run hides what two faults do together.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from contracts.settings import Settings
from tests.simulation.broker import SESSION_MS
from tests.simulation.store import Fates
from tests.simulation.traffic import Mix
from tests.simulation.worker import Ways

Kind = Literal["kill", "kill soon", "pause", "isolate", "join", "leave", "store away"]

GREATEST_PAUSE_MS = 9_000.0
"""Longer than a session and a rebalance together: who comes back from it finds its partitions given away."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to some worker, or to the store, at a time; `much` is for how long, or after how many
    steps."""

    at_ms: float
    kind: Kind
    much: float = 0.0


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
    """How far the workers' clocks may be off, either way."""
    floors: dict[str, int]
    chaos_ms: float
    """After this nothing fails any more."""


def plan(seed: int, *, zombies: bool = True) -> Plan:
    """The plan of a seed. `zombies=False` leaves out what makes a worker write after it lost its partitions."""
    rng = Random(f"plan {seed}")

    def maybe(share: float, *values: float) -> float:
        return rng.choice(values) if rng.random() < share else 0.0

    skew_ms = rng.choice((0, 300, 500))
    clock_off_ms = int(maybe(0.3, skew_ms // 2))
    settings = Settings(
        window_ms=1_000, lateness_ms=rng.choice((0, 500, 2_000)), skew_ms=skew_ms,
        idle_timeout_ms=rng.choice((700, 2_000, 3_000)), provisional_ms=rng.choice((1_000, 2_000, 4_000)),
        batch_messages=rng.choice((1, 2, 3, 8)), batch_wait_ms=rng.choice((200, 500, 1_000)),
        session_timeout_ms=int(SESSION_MS), idle_policy=rng.choice(("by-work", "by-work", "owner", "apart")),
    )  # fmt: skip
    if rng.random() < 0.15:  # Below what settings allow, so that few rows meet the bound.
        settings = settings.model_copy(update={"max_open_rows": rng.choice((70, 200, 500))})
    mix = Mix(
        events=rng.randrange(4, 22), windows=rng.randrange(2, 8), skew_ms=skew_ms,
        late=maybe(0.5, 0.1, 0.4), late_ms=rng.choice((3_000.0, 10_000.0)), twice=maybe(0.4, 0.1, 0.4),
        empty=maybe(0.2, 0.1, 0.5),
        disorder_ms=rng.choice((10.0, 300.0, 1_500.0)), skewed=maybe(0.3, 0.5, 1.0), future=maybe(0.2, 0.1, 0.3),
        poison=maybe(0.25, 0.1, 0.3), beats=maybe(0.5, 0.1, 0.4), json=maybe(0.2, 0.5),
        worker_behind_ms=clock_off_ms,
    )  # fmt: skip
    chaos_ms = mix.windows * 1_000 + rng.choice((2_000.0, 6_000.0, 12_000.0))
    fates = Fates(
        before=maybe(0.3, 0.05, 0.3), during=maybe(0.3, 0.05, 0.3), after=maybe(0.3, 0.05, 0.3),
        ghost=maybe(0.3 if zombies else 0.0, 0.05, 0.2), slow=maybe(0.3, 0.05, 0.4),
        slow_ms=rng.choice((500.0, 3_000.0)) if zombies else 500.0, quick_ms=rng.choice((2.0, 20.0, 200.0)),
    )  # fmt: skip
    ways = Ways(
        lost_commits=maybe(0.3, 0.3, 0.9), lost_letters=maybe(0.3, 0.1, 0.5), fetch_ms=rng.choice((1.0, 20.0, 300.0)),
        commit_every_s=rng.choice((0.3, 1.0, 2.0)), commit_on_leaving=rng.random() < 0.5, overlapping=maybe(0.2, 0.5),
        dropped=maybe(0.2, 0.05, 0.3), vouching=rng.random() < 0.5,
    )  # fmt: skip
    workers = rng.choice((1, 1, 2, 3))
    faults = _faults(rng, chaos_ms, zombies)
    return Plan(
        seed, rng.choice((1, 1, 2)), workers, settings, mix, fates, ways, faults, clock_off_ms,
        {"H100": 90_000, "A100": 55_000} if rng.random() < 0.7 else {}, chaos_ms,
    )  # fmt: skip


def _faults(rng: Random, chaos_ms: float, zombies: bool) -> tuple[Fault, ...]:
    """A few of a few kinds, at any time."""
    kinds: list[Kind] = ["kill", "kill soon", "pause", "isolate", "join", "leave", "store away"]
    if not zombies:
        kinds = [k for k in kinds if k not in ("isolate", "kill", "kill soon")]
    enabled = [k for k in kinds if rng.random() < 0.35]
    faults = []
    for _ in range(rng.choice((0, 1, 2, 3, 5)) if enabled else 0):
        kind = rng.choice(enabled)
        longest = {"store away": chaos_ms, "pause": GREATEST_PAUSE_MS, "isolate": GREATEST_PAUSE_MS}.get(kind, 0.0)
        much = float(rng.randrange(1, 60)) if kind == "kill soon" else rng.uniform(200.0, longest) if longest else 0.0
        if kind == "pause" and not zombies:
            much = min(much, 1_000.0)
        faults.append(Fault(rng.uniform(0.0, chaos_ms), kind, much))
    return tuple(sorted(faults, key=lambda f: f.at_ms))
