"""Numbers told apart: what `np.unique` says, sorted or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.grouping import distinct

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
