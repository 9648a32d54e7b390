"""Many seeds on many cores."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from tests.simulation.run import simulate

CHUNK = 100
"""Number of seeds per task of a process."""


@dataclass
class Tally:
    """Results of some seeds."""

    seeds: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    """The broken invariant, by seed."""
    met: Counter[str] = field(default_factory=Counter)
    """Faults that occurred, by kind."""
    virtual_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.broken |= other.broken
        self.met += other.met
        self.virtual_s += other.virtual_s
        self.cpu_s += other.cpu_s


def pool(jobs: int | None = None) -> ProcessPoolExecutor:
    """Processes for `tallies`: one per core. Spawned, because chdb and threads of the caller do not survive a fork."""
    return ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=multiprocessing.get_context("spawn"))


def tallies(workers: ProcessPoolExecutor, first: int, last: int) -> Iterator[Tally]:
    """Simulate seeds `first` to `last` inclusive, and yield a tally as each chunk completes."""
    todo: set[Future[Tally]] = {
        workers.submit(_chunk, begin, min(begin + CHUNK - 1, last)) for begin in range(first, last + 1, CHUNK)
    }
    try:
        while todo:
            finished, todo = wait(todo, return_when="FIRST_COMPLETED")
            for future in finished:
                yield future.result()
    finally:
        for future in todo:
            future.cancel()


def replay(seed: int) -> str:
    """The command that replays one seed with its trace."""
    return f"python -m tests.simulation {seed} --trace"


def _chunk(first: int, last: int) -> Tally:
    tally = Tally()
    for seed in range(first, last + 1):
        began_s = time.process_time()
        result = simulate(seed)
        tally.add(
            Tally(
                1, {seed: result.broken} if result.broken else {}, result.met, result.virtual_ms / 1000,
                time.process_time() - began_s,
            )
        )  # fmt: skip
    return tally
