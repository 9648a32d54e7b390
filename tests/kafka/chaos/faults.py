"""Faults in workers and brokers under a steady producer. Each function returns when all events are stored."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.kafka.chaos.crew import Member
from tests.kafka.chaos.field import PARTITIONS, Field

UNRECOVERED = 3
"""Number of kills in a row before every partition has to make progress again."""

Announcer = Callable[[str], None]


@dataclass
class Recovery:
    """Seconds from each fault until every partition has made another window final."""

    seconds: list[float] = field(default_factory=list)

    @property
    def p50_s(self) -> float:
        return median(self.seconds)

    @property
    def max_s(self) -> float:
        return max(self.seconds)


def begin(run: Field, workers: int) -> None:
    """Start the producer once `workers` workers run, and wait until every partition has final windows."""
    run.crew.scale(workers)
    run.crew.until_held(PARTITIONS, by_all=True)
    run.feeder.start()
    run.crew.until(lambda: all(run.progress.ends.values()), "every partition has final windows")


def kill_at_random(
    run: Field, rounds: int, seed: int, *, most_s: float = 5.0, announce: Announcer = lambda _: None
) -> Recovery:
    """kill -9 a random worker at a random moment, `rounds` times or more; its successor starts at once.

    The moment is drawn from 0 to `most_s` seconds after the last kill, so that some kills hit workers that start, take
    over or have just rejoined. After UNRECOVERED kills without progress the next waits for progress. The function ends
    once workers have also received partitions `rounds` times: on a busy machine more kills hit workers that only start.
    """
    rng = random.Random(seed)
    blows: list[float] = []
    while len(blows) < rounds or run.crew.rebalances() < rounds:
        time.sleep(rng.uniform(0, most_s))
        run.crew.tend()
        if len(blows) >= UNRECOVERED:
            _recovered(run, blows[-UNRECOVERED])
        victim = run.crew.kill(rng)
        blows.append(time.monotonic())
        announce(f"killed {victim.name}")
    return Recovery([_recovered(run, blow) for blow in blows])


def kill_broker(run: Field, away_s: float = 0.0) -> Recovery:
    """kill -9 the broker under load, and start it again after a while."""
    run.deployment.kafka.kill()
    time.sleep(away_s)
    run.deployment.kafka.start()
    return Recovery([_recovered(run, time.monotonic())])


def stop_broker(run: Field, away_s: float, meanwhile: Callable[[], None] = lambda: None) -> Recovery:
    """Shut the broker down cleanly under load, and start it again after a while."""
    run.deployment.kafka.stop()
    time.sleep(away_s)
    meanwhile()
    run.deployment.kafka.start()
    return Recovery([_recovered(run, time.monotonic())])


def scale(run: Field, counts: Sequence[int]) -> Recovery:
    """Run each number of workers in turn, until all partitions are held and all make progress."""
    recovery = Recovery()
    for count in counts:
        changed_s = time.monotonic()
        run.crew.scale(count)
        run.crew.until_held(PARTITIONS, by_all=True)
        recovery.seconds.append(_recovered(run, changed_s))
    return recovery


def pause_worker(run: Field, rng: random.Random) -> tuple[Member, Recovery]:
    """SIGSTOP a worker until others hold its partitions and have made progress, then SIGCONT until it has rejoined.

    Returns the worker and two durations: until the others made progress, and until it rejoined after SIGCONT.
    """
    holding = [m for m in run.crew.members if m.metrics().get("wattlog_stream_partitions", 0)]
    zombie = rng.choice(holding)
    others = [m for m in run.crew.members if m is not zombie]
    paused_s = time.monotonic()
    zombie.worker.pause()
    run.crew.until(
        lambda: sum(m.metrics().get("wattlog_stream_partitions", 0) for m in others) == PARTITIONS,
        "the others hold every partition",
    )
    without = _recovered(run, time.monotonic())
    held_before = len(zombie.holdings())
    zombie.worker.resume()
    woke_s = time.monotonic()
    run.crew.until(lambda: len(zombie.holdings()) > held_before, f"{zombie.name} rejoins")
    run.crew.until_held(PARTITIONS)
    return zombie, Recovery([woke_s - paused_s, without, _recovered(run, woke_s)])


def _recovered(run: Field, since_s: float) -> float:
    run.crew.until(
        lambda: run.progress.recovered_after(since_s) is not None,
        "every partition has made another window final",
    )
    took = run.progress.recovered_after(since_s)
    assert took is not None
    return took
