"""Amounts over time: cut by windows, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import MAX_SPAN_MS
from streams.core.time_spread import SpanCuts, window_pieces

W = 10


def cut(amount: int, p0: int, p1: int, t0: int, t1: int, window_ms: int = W) -> dict[int, int]:
    column = lambda v: np.array([v], np.int64)  # noqa: E731
    row, window = window_pieces(column(t0), column(t1), window_ms)
    return dict(
        zip(
            window.tolist(),
            SpanCuts.of(column(p0), column(p1), row, window, window_ms).spread(column(amount)).tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize(
    ("t0", "t1", "windows"),
    [
        (0, 10, [0]),  # ends on the boundary
        (0, 11, [0, 1]),
        (9, 10, [0]),
        (10, 20, [1]),
        (9, 31, [0, 1, 2, 3]),
        (5, 5, [0]),  # no length
        (10, 10, [1]),  # no length, on a boundary
    ],
)
def test_the_windows_of_a_span_are_those_of_the_table(t0, t1, windows):
    assert window_pieces(np.array([t0]), np.array([t1]), W)[1].tolist() == windows


# amount, [p0, p1) that it is spread over, [t0, t1) of its row, amount of each window.
@pytest.mark.parametrize(
    ("amount", "p0", "p1", "t0", "t1", "expected"),
    [
        (100, 0, 10, 0, 10, {0: 100}),
        (100, 5, 15, 5, 15, {0: 50, 1: 50}),
        (100, 8, 18, 8, 18, {0: 20, 1: 80}),
        (10, 5, 35, 5, 35, {0: 1, 1: 4, 2: 3, 3: 2}),  # 1.67, 3.33, 3.33, 1.67: floors of the running total
        (0, 5, 35, 5, 35, {0: 0, 1: 0, 2: 0, 3: 0}),
        (1, 5, 35, 5, 35, {0: 0, 1: 0, 2: 0, 3: 1}),  # the last gets the remainder
        (100, 5, 10, 5, 25, {0: 100, 1: 0, 2: 0}),  # prefill that ends on a boundary
        (100, 10, 25, 5, 25, {0: 0, 1: 66, 2: 34}),  # decode that begins on one
        (100, 12, 12, 5, 25, {0: 0, 1: 100, 2: 0}),  # an empty span is a step ...
        (100, 10, 10, 5, 25, {0: 0, 1: 100, 2: 0}),  # ... in the window that holds it
        (100, 25, 25, 5, 25, {0: 0, 1: 0, 2: 100}),
        (100, 7, 7, 7, 7, {0: 100}),
    ],
)
def test_the_amount_of_each_window_is_that_of_the_table(amount, p0, p1, t0, t1, expected):
    assert cut(amount, p0, p1, t0, t1) == expected


def test_the_largest_amount_over_the_longest_span_does_not_overflow():
    amount = 2**62 - 1
    got = cut(amount, 1, 1 + MAX_SPAN_MS, 1, 1 + MAX_SPAN_MS, 10_000)
    assert sum(got.values()) == amount
    for window, part in got.items():  # Python's integers give the same.
        until = lambda t: amount * min(max(t - 1, 0), MAX_SPAN_MS) // MAX_SPAN_MS  # noqa: E731
        assert part == until((window + 1) * 10_000) - until(window * 10_000)


def test_no_rows_give_no_pieces():
    none = np.zeros(0, np.int64)
    row, window = window_pieces(none, none, W)
    assert len(SpanCuts.of(none, none, row, window, W).spread(none)) == 0


@given(
    st.integers(0, 2**62 - 1),
    st.integers(0, 10**6),
    st.lists(st.integers(0, 10**5), min_size=3, max_size=3),
    st.sampled_from([1, 7, 1_000, 10_000]),
)
def test_pieces_sum_to_the_amount_and_none_is_negative(amount, start, steps, window_ms):
    t0, t1 = start, start + sum(steps)
    p0, p1 = start + steps[0], start + steps[0] + steps[1]
    if (t1 - t0) // window_ms > 10_000:
        return
    parts = cut(amount, p0, p1, t0, t1, window_ms).values()
    assert sum(parts) == amount
    assert min(parts) >= 0
