"""Sums per window and entity."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import Event, Method
from contracts.joined_batches import PowerColumns
from producers.runtime.event_sequence import power_batch
from streams.core.accumulators import WindowAccumulators, by_window
from streams.core.windows import OpenWindows


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def held(sums: WindowAccumulators, numbers, **kw) -> dict:
    window, entity, values = sums.take(numbers, **kw)
    return {
        (w, sums.keys[e][0]): tuple(v)
        for w, e, v in zip(window.tolist(), entity.tolist(), values.T.tolist(), strict=True)
    }


def test_repeated_entities_are_added_and_the_greatest_is_kept():
    sums = WindowAccumulators(2, greatest=(1,))
    a, b = sums.ids([("a",), ("b",)])
    sums.add(column(5, 5, 6), np.array([a, a, b]), np.array([[1, 2, 4], [3, 1, 7]]))
    sums.add(column(5), np.array([a]), np.array([[8], [2]]))
    assert held(sums, [5, 6], remove=False) == {(5, "a"): (11, 3), (6, "b"): (4, 7)}


def test_a_popped_window_is_gone():
    sums = WindowAccumulators(1)
    sums.add(column(5), sums.ids([("a",)]), np.array([[1]]))
    assert held(sums, [5], remove=True) == {(5, "a"): (1,)}
    assert held(sums, [5], remove=True) == {}
    assert (sums.rows, sums.dirty) == (0, set())


def test_new_entities_fit_into_open_windows():
    sums = WindowAccumulators(1)
    sums.add(column(5), sums.ids([("first",)]), np.array([[1]]))
    many = sums.ids([(f"e{i}",) for i in range(200)])
    sums.add(np.full(200, 5), many, np.ones((1, 200), np.int64))
    assert len(held(sums, [5], remove=False)) == 201


def test_compacting_forgets_only_entities_without_a_window():
    sums = WindowAccumulators(1)
    ids = sums.ids([(f"e{i}",) for i in range(100)])
    sums.add(np.repeat([5, 6], 50), ids, np.arange(1, 101, dtype=np.int64)[None, :])
    before = held(sums, [6], remove=False)
    sums.take([5], remove=True)
    sums.compact()
    assert len(sums.keys) == 50
    assert held(sums, [6], remove=False) == before
    assert sums.ids([("e99",), ("new",)]).tolist() == [49, 50]


def test_compacting_nothing_leaves_nothing():
    sums = WindowAccumulators(1)
    sums.ids([("a",)])
    sums.compact()
    sums.add(column(5), sums.ids([("b",)]), np.array([[1]]))
    assert held(sums, [5], remove=False) == {(5, "b"): (1,)}


@given(st.lists(st.integers(-3, 3)))
def test_rows_by_window_are_all_rows_each_once(numbers):
    window = column(*numbers)
    entries = list(by_window(window))
    assert [n for n, _ in entries] == sorted(set(numbers))
    assert all((window[at] == n).all() and len(window[at]) == numbers.count(n) for n, at in entries)


def test_an_empty_state_has_no_facts():
    facts = OpenWindows(10_000).snapshot([], remove=True)
    assert facts.rows == 0
    assert (
        len(facts.gpu_energy()["energy_uj"])
        == len(facts.token_usage()["requests"])
        == len(facts.requests()[0]["t_end"])
        == 0
    )


def test_a_correction_adds_energy_to_its_windows_and_no_time():
    rows = [("g", "H", 0, 20_000, 2_000, Method.COUNTER, 500), ("g", "H", 0, 20_000, 100, Method.CORRECTION, 0)]
    batch = power_batch("n", rows)
    windows = OpenWindows(10_000)
    windows.add([Event("s", 1, 0, "c", "w", batch)], PowerColumns.of([batch]))
    table = windows.snapshot([0, 1], remove=True).gpu_energy()
    assert table["energy_uj"].tolist() == [1_050, 1_050]
    assert table["covered_ms"].tolist() == [10_000, 10_000]
    assert table["method"].tolist() == [Method.ESTIMATED, Method.ESTIMATED]
