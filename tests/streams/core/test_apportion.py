"""A total shared by weights: largest remainder, parts that sum to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.apportion import apportion
from tests.support.oracle import largest_remainder


def shared(totals: list[int], *members: tuple[int, int]) -> list[int]:
    group, weight = zip(*members, strict=True) if members else ((), ())
    return apportion(np.array(totals, np.int64), np.array(group, np.intp), np.array(weight, np.int64)).tolist()


# totals; members as (group, weight); parts
@pytest.mark.parametrize(
    ("totals", "members", "parts"),
    [
        ([10], [(0, 1)], [10]),
        ([10], [(0, 1), (0, 1)], [5, 5]),
        ([10], [(0, 1), (0, 1), (0, 1)], [4, 3, 3]),  # equal remainders: served in order
        ([11], [(0, 1), (0, 1), (0, 1)], [4, 4, 3]),
        ([10], [(0, 5), (0, 3), (0, 9)], [3, 2, 5]),  # 2.94, 1.76, 5.29
        ([10], [(0, 1), (0, 0), (0, 1)], [5, 0, 5]),  # no weight, no part
        ([1], [(0, 0), (0, 1)], [0, 1]),
        ([0], [(0, 1), (0, 2)], [0, 0]),
        ([10], [(0, 0), (0, 0)], [0, 0]),  # no group: the caller decides
        ([10, 7], [(0, 1), (1, 1), (0, 1), (1, 1)], [5, 4, 5, 3]),  # members need not be adjacent
        ([10, 99, 7], [(0, 1), (2, 1)], [10, 7]),  # a group without members
        ([10], [], []),
    ],
)
def test_the_parts_are_those_of_the_table(totals, members, parts):
    assert shared(totals, *members) == parts


def test_a_total_that_is_too_large_is_an_error():
    with pytest.raises(OverflowError):
        shared([2**62], (0, 1))


@given(st.integers(0, 2**62 - 1), st.lists(st.integers(0, 2**46), min_size=1, max_size=8))
def test_parts_are_those_of_the_largest_remainder_method_in_exact_integers(total, weights):
    assert shared([total], *((0, w) for w in weights)) == largest_remainder(total, weights)


@given(st.integers(0, 2**62 - 1), st.lists(st.integers(0, 2**59), min_size=1, max_size=8))
def test_with_enormous_weights_parts_still_sum_to_the_whole_and_are_fair_to_one_in_2_to_40(total, weights):
    parts, total_weight = shared([total], *((0, w) for w in weights)), sum(weights)
    assert sum(parts) == (total if total_weight else 0)
    for part, weight in zip(parts, weights, strict=True):
        assert part >= 0
        assert not total_weight or abs(part - total * weight // total_weight) <= total // 2**40 + 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1_000)), max_size=20),
    st.lists(st.integers(0, 10**15), min_size=4, max_size=4),
)
def test_groups_do_not_disturb_each_other(members, totals):
    parts = shared(totals, *members)
    for g in range(4):
        alone = [w for h, w in members if h == g]
        assert [p for p, (h, _) in zip(parts, members, strict=True) if h == g] == largest_remainder(totals[g], alone)
