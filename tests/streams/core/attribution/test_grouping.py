"""Distinct numbers and sorted rows: the results of `np.unique` and `np.lexsort`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.attribution.grouping import distinct, ordered

close, apart = st.integers(-20, 20), st.integers(-(2**62), 2**62)


@given(
    st.lists(close, max_size=30) | st.lists(apart, max_size=8) | st.lists(close.map(lambda n: 2**62 + n), max_size=9)
)
def test_distinct_numbers_and_the_index_of_each_are_those_of_numpy(numbers) -> None:
    column = np.array(numbers, np.int64)
    values, at, which = distinct(column)
    assert values.tolist() == sorted(set(numbers))
    assert column[at].tolist() == values.tolist()
    assert values[which].tolist() == numbers


@pytest.mark.parametrize("span", [31, 32])
def test_the_distance_between_numbers_does_not_matter(span) -> None:
    values, at, which = distinct(np.array([span], np.int64))
    assert (values.tolist(), at.tolist(), which.tolist()) == ([span], [0], [0])


@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 9)), max_size=40).flatmap(
        lambda rows: st.permutations(sorted(rows))
    )
)
@pytest.mark.parametrize("scale", [1, 2**31])
def test_rows_are_sorted_by_the_first_column_then_the_second_for_any_numbers(scale, rows) -> None:
    columns = [np.array([row[i] for row in rows], np.int64) * scale for i in range(3)]
    assert [rows[i] for i in ordered(columns)] == sorted(rows)
