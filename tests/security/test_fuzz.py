"""A slice of the fuzzing of what strangers send (`python -m tests.security.fuzz --minutes 30`)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from contracts.errors import BadEvent
from tests.security.fuzz import Target, fuzz, targets
from tests.security.mutations import MAX_BYTES, mutant


@pytest.mark.parametrize(
    "seeds", [range(30), pytest.param(range(30, 400), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_every_mutant_is_accepted_or_refused_with_an_error_of_ours(tmp_path: Path, seeds: range) -> None:
    outcomes, faults = fuzz(targets(tmp_path), map(str, seeds))
    assert not faults
    assert {name.rpartition(": ")[2] for name in outcomes} == {"accepted", "refused"}


def test_a_target_that_raises_another_error_is_a_fault_with_its_seed() -> None:
    def broken(body: bytes) -> None:
        raise KeyError("x")

    def refused(body: bytes) -> None:
        raise BadEvent("x", 1, "fix")

    _, faults = fuzz({"broken": Target(broken, [b"x"]), "refused": Target(refused, [b"x"])}, iter(["7"]))
    assert [(fault.target, fault.seed) for fault in faults] == [("broken", "7")]


def test_mutants_are_bounded_and_the_same_for_a_seed() -> None:
    body = b'{"a": [1, {"b": "c"}]}'
    mutants = [mutant(random.Random(n), body, [body]) for n in range(300)]
    assert mutants == [mutant(random.Random(n), body, [body]) for n in range(300)]
    assert len(set(mutants)) > 200
    assert all(len(one) <= MAX_BYTES for one in mutants)
