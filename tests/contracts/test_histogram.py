"""Histograms: buckets of an eighth of an octave, exact sums, and quantiles that are true to one part in eight."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.histogram import MAX_BUCKETS, HistogramColumn, HistogramCounts, bounds_us, buckets_of, quantile_us

TIMES_US = st.integers(1, 2**52)
HISTOGRAMS = st.lists(st.dictionaries(st.integers(0, MAX_BUCKETS - 1), st.integers(1, 2**40), max_size=5), max_size=6)


@given(TIMES_US)
def test_a_time_lies_within_the_bounds_of_its_bucket(time_us: int) -> None:
    bucket = int(buckets_of(np.array([time_us]))[0])
    low, high = map(Fraction, bounds_us(bucket))
    assert 0 <= bucket < MAX_BUCKETS
    assert low <= time_us < high
    assert high <= low * Fraction(9, 8)


def test_buckets_follow_each_other_without_a_gap() -> None:
    assert all(bounds_us(bucket)[1] == bounds_us(bucket + 1)[0] for bucket in range(MAX_BUCKETS - 1))


@pytest.mark.parametrize(
    ("time_us", "bucket"), [(0, 0), (1, 0), (2, 8), (3, 12), (8, 24), (15, 31), (16, 32), (17, 32), (18, 33)]
)
def test_small_times_have_the_buckets_of_the_definition(time_us: int, bucket: int) -> None:
    assert buckets_of(np.array([time_us])).tolist() == [bucket]


@given(st.lists(TIMES_US, min_size=1, max_size=50), st.integers(1, 1000))
def test_a_quantile_is_that_of_the_times_to_one_part_in_eight(times_us: list[int], per_mille: int) -> None:
    histogram = Counter(buckets_of(np.array(times_us)).tolist())
    exact = sorted(times_us)[max(-(-len(times_us) * per_mille // 1000), 1) - 1]
    quantile = quantile_us(histogram, per_mille)
    assert quantile is not None
    assert exact * 8 / 9 <= quantile <= exact * 9 / 8


def test_a_quantile_without_requests_is_unknown() -> None:
    assert quantile_us({}, 500) is None


@given(HISTOGRAMS, HISTOGRAMS)
def test_columns_are_joined_taken_and_sent_without_a_change(
    first: list[dict[int, int]], second: list[dict[int, int]]
) -> None:
    joined = HistogramColumn.concat([HistogramColumn.of(first), HistogramColumn.of(second)])
    assert list(joined) == [*first, *second]
    backwards = np.arange(len(joined))[::-1]
    assert list(joined.take(backwards)) == [*first, *second][::-1]
    arrow = pa.chunked_array([pa.array(HistogramColumn.of(first)), pa.array(HistogramColumn.of(second))])
    assert list(HistogramColumn.of_arrow(arrow)) == list(joined)
    assert list(HistogramColumn.of_arrow(arrow.slice(len(first)))) == second


@given(HISTOGRAMS)
def test_counts_and_columns_say_the_same(histograms: list[dict[int, int]]) -> None:
    column = HistogramColumn.of(histograms)
    counts = HistogramCounts.of([column, HistogramColumn.empty(len(column)), column, column])
    assert [list(c) for c in counts.columns(len(column)).values()] == [
        histograms,
        [{}] * len(column),
        histograms,
        histograms,
    ]
    doubled = HistogramCounts.summed(*(np.concatenate([c, c]) for c in counts))
    twice = [{bucket: 2 * number for bucket, number in histogram.items()} for histogram in histograms]
    assert list(doubled.columns(len(column))["request_duration"]) == twice
