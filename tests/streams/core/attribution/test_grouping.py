"""Numbers told apart, and rows put in order: what `np.unique` and `np.lexsort` say."""

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
def test_distinct_numbers_are_those_that_are_there_and_each_knows_which_it_is(numbers) -> None:
    column = np.array(numbers, np.int64)
    found, at, which = distinct(column)
    assert found.tolist() == sorted(set(numbers))
    assert column[at].tolist() == found.tolist()
    assert found[which].tolist() == numbers


@pytest.mark.parametrize("span", [31, 32])
def test_how_far_they_lie_apart_changes_nothing(span) -> None:
    found, at, which = distinct(np.array([span], np.int64))
    assert (found.tolist(), at.tolist(), which.tolist()) == ([span], [0], [0])


@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 9)), max_size=40).flatmap(
        lambda rows: st.permutations(sorted(rows))
    )
)
@pytest.mark.parametrize("scale", [1, 2**31])
def test_rows_are_ordered_by_the_first_column_then_the_second_however_large_the_numbers(scale, rows) -> None:
    columns = [np.array([row[i] for row in rows], np.int64) * scale for i in range(3)]
    assert [rows[i] for i in ordered(columns)] == sorted(rows)
