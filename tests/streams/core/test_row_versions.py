"""Order of versions: provisional < final of an earlier ownership < final of a later one < its restatements."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streams.core.row_versions import final, provisional

ORDER = [
    provisional(0), provisional(1), provisional(2**62 - 1),
    final(0, 0), final(0, 1), final(1, 0), final(1, 1), final(1, 2**28 - 1), final(2, 0), final(2**34 - 1, 2**28 - 1),
]  # fmt: skip


def test_versions_rise_in_the_order_in_which_rows_replace_each_other():
    assert all(a < b for a, b in pairwise(ORDER))


def test_the_greatest_version_fits_an_unsigned_64_bit_integer():
    assert ORDER[-1] < 2**64


@pytest.mark.parametrize(
    "make",
    [
        lambda: provisional(-1),
        lambda: provisional(2**62),
        lambda: final(-1, 0),
        lambda: final(2**34, 0),
        lambda: final(0, 2**28),
        lambda: final(0, -1),
    ],
)
def test_a_version_that_does_not_fit_is_an_error(make):
    with pytest.raises(OverflowError):
        make()
