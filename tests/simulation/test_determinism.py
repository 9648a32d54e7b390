"""A seed determines the whole simulation, in any process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import main
from tests.simulation.plan import KINDS, plan
from tests.simulation.run import simulate
from tests.support.paths import ROOT
from tests.support.waiting import HANG_S

SEEDS = range(12)
_ASK = "from tests.simulation.test_determinism import digest; print(digest())"


def digest() -> str:
    """All steps of these seeds, as a digest."""
    lines = [line for seed in SEEDS for line in simulate(seed, trace=True).lines]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_seed_repeats_the_same_steps() -> None:
    assert digest() == digest()


def test_a_seed_repeats_the_same_steps_in_a_process_with_other_hashes() -> None:
    other = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=HANG_S,
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "1"},
    )  # fmt: skip
    assert other.stdout.strip() == digest()


def test_a_trace_changes_nothing() -> None:
    for seed in SEEDS:
        traced, untraced = simulate(seed, trace=True), simulate(seed)
        assert (traced.steps, traced.met, traced.virtual_ms) == (untraced.steps, untraced.met, untraced.virtual_ms)


@pytest.mark.slow
def test_every_kind_of_fault_occurs_within_a_few_hundred_seeds() -> None:
    planned = {fault.kind for seed in range(300) for fault in plan(seed).faults}
    assert planned == set(KINDS)
    met = {kind for seed in range(150) for kind in simulate(seed).met}
    assert met >= {
        "away", "refused before", "failed during", "failed after", "timed out, done later", "slow", "fenced",
        "commit lost", "dead letter failed", "ended itself", "fetched and dropped", "rebalance", "sent late",
        "sent twice", "clock skewed", "from the future", "poison",
    }  # fmt: skip


def test_the_command_line_replays_one_seed_with_its_trace(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["7", "--trace"]) == 0
    output = capsys.readouterr().out
    assert "is assigned" in output and "stored" in output and "committed" in output
    assert "seed 7 is well" in output


def test_the_command_line_runs_and_counts_several_seeds(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["--seeds", "0-9", "--jobs", "1"]) == 0
    output = capsys.readouterr()
    assert "10 seeds" in output.out and "every promise was kept" in output.out
    assert "10 of 10 seeds, 0 broken" in output.err
