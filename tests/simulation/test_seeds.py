"""Whatever fails, the final ledger is the oracle's: thousands of seeds, each another combination of faults.

In CI seeds 0 to 19,999, the same on every run, so that a change fails for what it changed; elsewhere 2,000 that differ
from run to run. `WATTLOG_SIMULATION_SEEDS=A-B` asks for others. What fails is printed with the command that replays it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation import many

PARTS = 20
"""Tests that the seeds are dealt out to, so that each ends well before its timeout."""


def _seeds() -> tuple[int, int]:
    asked = os.environ.get("WATTLOG_SIMULATION_SEEDS")
    if asked:
        first, _, last = asked.partition("-")
        return int(first), int(last or first)
    if os.environ.get("CI"):
        return 0, 19_999
    first = 1_000_000 + time.time_ns() // 10**9 % 10**8 * 10  # Not those of CI, and others each time.
    return first, first + 1_999


FIRST, LAST = _seeds()


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with many.pool() as workers:
        yield workers


@pytest.mark.parametrize("part", range(PARTS))
def test_the_final_ledger_is_the_oracles_whatever_fails(workers: ProcessPoolExecutor, part: int) -> None:
    count = LAST - FIRST + 1
    first, last = FIRST + count * part // PARTS, FIRST + count * (part + 1) // PARTS - 1
    total = many.Tally()
    for tally in many.tallies(workers, first, last):
        total.add(tally)
    said = [f"{many.replay(seed)}\n  {broken}" for seed, broken in sorted(total.broken.items())]
    assert not said, f"{len(said)} of {total.seeds} seeds broke a promise:\n" + "\n".join(said[:10])
    assert total.seeds == max(0, last - first + 1)
