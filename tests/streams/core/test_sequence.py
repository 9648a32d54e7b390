"""The seen numbers of a source: exact, with counted gaps, in bounded memory."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.sequence import MAX_AHEAD, SequenceRun, prune


def seen(*numbers: int) -> SequenceRun:
    run = SequenceRun()
    for n in numbers:
        run.add(n, 1_000 + n)
    return run


# numbers in order of arrival; received, duplicates, gaps, numbers kept ahead of the first gap
@pytest.mark.parametrize(
    ("numbers", "received", "duplicates", "gaps", "ahead"),
    [
        ([], 0, 0, 0, 0),
        ([0], 1, 0, 0, 0),
        ([0, 1, 2], 3, 0, 0, 0),
        ([2, 1, 0], 3, 0, 0, 0),
        ([0, 0], 1, 1, 0, 0),
        ([0, 2], 2, 0, 1, 1),
        ([0, 2, 2], 2, 1, 1, 1),
        ([5], 1, 0, 5, 1),
        ([0, 2, 1], 3, 0, 0, 0),
        ([0, 4, 2, 1], 4, 0, 1, 1),
    ],
)
def test_the_counts_are_those_of_the_table(numbers, received, duplicates, gaps, ahead):
    run = seen(*numbers)
    assert (run.received, run.duplicates, run.gaps, len(run.ahead)) == (received, duplicates, gaps, ahead)


def test_a_gap_that_stays_too_long_is_given_up_and_stays_counted():
    run = seen(*range(1, MAX_AHEAD + 2))
    assert len(run.ahead) == 0
    assert run.gaps == 1
    assert not run.add(0, 0)
    assert (run.gaps, run.duplicates) == (1, 1)


def test_a_jump_takes_the_memory_of_one_number():
    run = seen(0, 10**14)
    assert (len(run.ahead), run.gaps) == (1, 10**14 - 1)


@given(st.lists(st.integers(0, 60)))
def test_a_run_is_the_set_of_its_numbers(numbers):
    run = SequenceRun()
    fresh = [run.add(n, n) for n in numbers]
    assert sum(fresh) == len(set(numbers)) == run.received
    assert run.duplicates == len(numbers) - len(set(numbers))
    assert all((n in run) == (n in numbers) for n in range(61))


@given(st.lists(st.integers(0, 60)))
def test_a_run_survives_its_json(numbers):
    run = seen(*numbers)
    assert SequenceRun.load(json.loads(json.dumps(run.dump()))) == run


def test_a_copy_is_independent():
    run = seen(0, 2)
    run.copy().add(1, 0)
    assert run.gaps == 1


def runs_since(**at_ms: int) -> dict:
    runs = {(source, 1): SequenceRun() for source in at_ms}
    for source, t in at_ms.items():
        runs[source, 1].add(0, t)
    return runs


def test_runs_without_recent_events_are_forgotten():
    runs = runs_since(a=10, b=20, c=30)
    assert prune(runs, 20, 100) == 0, "for want of room"
    assert sorted(runs) == [("b", 1), ("c", 1)]


def test_above_the_bound_the_longest_silent_runs_are_forgotten():
    runs = runs_since(a=10, b=20, c=30)
    assert prune(runs, 0, 1) == 2
    assert sorted(runs) == [("c", 1)]


def test_a_run_of_old_events_is_recent_when_they_arrive():
    runs = runs_since(a=10)
    runs["a", 1].add(1, 11, partition_ms=1_000)
    assert prune(runs, 500, 100) == 0
    assert runs["a", 1].last_event_ms == 11


def test_a_duplicate_makes_its_run_recent():
    runs = runs_since(a=10)
    runs["a", 1].add(0, 10, partition_ms=1_000)
    assert prune(runs, 500, 100) == 0
