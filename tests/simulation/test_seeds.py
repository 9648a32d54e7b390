"""The final ledger equals the oracle's through all faults: each seed is another combination of them.

Seeds 0 to 199; with `--exhaustive`, 0 to 19,999. They are the same on every run, so that a change fails because of that
change. `WATTLOG_SIMULATION_SEEDS=A-B` chooses others. A failure prints the command that replays its seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation import many

PARTS = 20
"""Number of tests that share the seeds, so that each ends well before its timeout."""


def _seeds(config: pytest.Config) -> tuple[int, int]:
    """First and last seed, inclusive."""
    chosen = os.environ.get("WATTLOG_SIMULATION_SEEDS")
    if chosen:
        first, _, last = chosen.partition("-")
        return int(first), int(last or first)
    return 0, 19_999 if config.getoption("--exhaustive") else 199


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with many.pool() as workers:
        yield workers


@pytest.mark.parametrize("part", range(PARTS))
def test_the_final_ledger_is_the_oracles_through_all_faults(
    workers: ProcessPoolExecutor, part: int, pytestconfig: pytest.Config
) -> None:
    lowest, highest = _seeds(pytestconfig)
    count = highest - lowest + 1
    first, last = lowest + count * part // PARTS, lowest + count * (part + 1) // PARTS - 1
    total = many.Tally()
    for tally in many.tallies(workers, first, last):
        total.add(tally)
    failures = [f"{many.replay(seed)}\n  {broken}" for seed, broken in sorted(total.broken.items())]
    assert not failures, f"{len(failures)} of {total.seeds} seeds broke a promise:\n" + "\n".join(failures[:10])
    assert total.seeds == max(0, last - first + 1)
