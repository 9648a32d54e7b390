"""Differences between two snapshots of counters and levels."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.common.counter_delta import (
    FORGET_MS,
    CounterDelta,
    CounterSnapshot,
    DeltaResult,
    ObjectCounters,
    counter_deltas,
)

T0 = 1_700_000_000_000


def snapshot(
    t_ms: int, *, boot: str = "b1", scope: str = "", **objects: tuple[int, int] | tuple[int, int, str]
) -> CounterSnapshot:
    """A snapshot of objects by name: (counter, level[, life])."""
    counters = {n: ObjectCounters(t_ms, {"cpu": t[0]}, {"memory": t[1]}, *map(str, t[2:])) for n, t in objects.items()}
    return CounterSnapshot(t_ms, boot, scope, counters)


FIRST = snapshot(T0, a=(100, 8))
LATER = T0 + 1_000


@pytest.mark.parametrize(
    ("now", "deltas", "resets"),
    [
        (snapshot(LATER, a=(130, 10)), [CounterDelta("a", T0, LATER, {"cpu": 30}, {"memory": Decimal(9_000)})], 0),
        (snapshot(LATER, a=(30, 9)), [CounterDelta("a", T0, LATER, {"cpu": 30}, {"memory": Decimal(8_500)})], 1),
        (snapshot(LATER, a=(130, 10, "new")), [CounterDelta("a", T0, LATER, {"cpu": 130}, {})], 0),
        (snapshot(LATER, boot="b2", a=(130, 10)), [CounterDelta("a", T0, LATER, {"cpu": 130}, {})], 0),
        (snapshot(LATER, b=(7, 1)), [CounterDelta("b", T0, LATER, {"cpu": 7}, {})], 0),
        (snapshot(LATER, scope="more", b=(7, 1)), [], 0),
        (snapshot(T0 - 5_000, a=(130, 10)),
         [CounterDelta("a", T0 - 5_000, T0 - 5_000, {"cpu": 30}, {"memory": Decimal(0)})], 0),
        (snapshot(LATER), [], 0),
    ],
    ids=[
        "grew", "went back", "another life", "the machine started anew", "came since", "not looked for before",
        "clock set back", "gone",
    ],
)  # fmt: skip
def test_growth_is_counted_since_the_first_snapshot(
    now: CounterSnapshot, deltas: list[CounterDelta], resets: int
) -> None:
    assert counter_deltas(FIRST, now)[1:] == (deltas, resets)


def test_the_first_snapshot_counts_nothing() -> None:
    assert counter_deltas(None, FIRST) == DeltaResult(FIRST, [], 0)


def test_a_missing_object_is_not_counted_again() -> None:
    missed = counter_deltas(FIRST, snapshot(T0 + 1_000, b=(0, 0)))
    back = counter_deltas(missed.snapshot, snapshot(T0 + 2_000, a=(150, 10)))
    assert [(u.name, u.t0_ms, u.counters) for u in back.deltas] == [("a", T0, {"cpu": 50})]


def test_a_missing_counter_is_not_counted_again() -> None:
    without = CounterSnapshot(T0 + 1_000, "b1", "", {"a": ObjectCounters(T0 + 1_000, {}, {"memory": 8})})
    back = counter_deltas(counter_deltas(FIRST, without).snapshot, snapshot(T0 + 2_000, a=(150, 10)))
    assert [u.counters for u in back.deltas] == [{"cpu": 50}]


def test_missing_objects_are_forgotten_after_a_day() -> None:
    assert counter_deltas(FIRST, snapshot(T0 + FORGET_MS, b=(0, 0))).snapshot.objects.keys() == {"b"}


@given(st.lists(st.integers(0, 10**15), min_size=1), st.integers(0, 10**6))
def test_the_growth_does_not_depend_on_the_number_of_snapshots(steps: list[int], start: int) -> None:
    total, before, t_ms, total_delta = start, snapshot(T0, a=(start, 0)), T0, 0
    for growth in steps:
        total, t_ms = total + growth, t_ms + 1_000
        result = counter_deltas(before, snapshot(t_ms, a=(total, 0)))
        total_delta += sum(u.counters["cpu"] for u in result.deltas)
        before = result.snapshot
    assert total_delta == sum(steps)
