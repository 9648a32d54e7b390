"""Several devices under one name, by the rhythm of the rows: each tick has a burst of rows, one for each device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

MAX_STEP_MS = 250
"""Longest time between the rows of one tick: tools read one GPU after the other."""
MIN_BURSTS = 2
"""Ticks from which a rhythm is believed."""
_SHARE = 0.8
"""Share of the bursts that must be of the same size."""


def devices_by_rhythm(times_ms: Sequence[int]) -> int:
    """Return how many devices the times of rows, in the order of the file, look like: 1 for one.

    A burst is a run of rows whose steps are short in themselves, and short beside the steps between bursts.
    """
    steps = [b - a for a, b in pairwise(times_ms)]
    long_steps = [step for step in steps if step > MAX_STEP_MS]
    shorts = [step for step in steps if 0 <= step <= MAX_STEP_MS]
    if not shorts or not long_steps:
        return _by_equal_times(times_ms)
    if 4 * max(shorts) > min(long_steps):
        return _by_equal_times(times_ms)
    sizes = Counter[int]()
    size = 1
    for step in steps:
        if 0 <= step <= MAX_STEP_MS:
            size += 1
        else:
            sizes[size] += 1
            size = 1
    return _usual(sizes, size)


def _by_equal_times(times_ms: Sequence[int]) -> int:
    """Return the usual number of rows with the same time, in a row."""
    sizes = Counter[int]()
    size = 1
    for a, b in pairwise(times_ms):
        if a == b:
            size += 1
        else:
            sizes[size] += 1
            size = 1
    return _usual(sizes, size)


def _usual(sizes: Counter[int], last: int) -> int:
    """Return the usual size of bursts. The last one counts if it is whole: the file may end within it."""
    if last in sizes:
        sizes[last] += 1
    bursts = sum(sizes.values())
    if bursts < MIN_BURSTS:
        return 1
    size, count = sizes.most_common(1)[0]
    return size if count >= _SHARE * bursts else 1
