"""Several devices under one name, by the rhythm of the rows: each tick has a burst of rows, one for each device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median_low

MAX_STEP_MS = 250
"""Longest time between the rows of one tick: tools read one GPU after the other."""
MIN_BURSTS = 2
"""Ticks from which a rhythm is believed."""
MIN_ROUNDS = 4
"""Rounds of steps in turn from which they are believed to be of several devices."""
_MIN_PHASED_STEPS = 8
_MAX_PHASES = 16
_PHASE_SPREAD = 0.15
"""How much steps must differ, beside the usual one, to be different phases."""
_STEADY_SHARE = 0.95
_LEVEL_SPREAD = 0.05
_SHARE = 0.8
"""Share of the bursts that must be of the same size."""


def devices_by_rhythm(times_ms: Sequence[int]) -> int:
    """Return how many devices the times of rows, in the order of the file, look like: 1 for one.

    A burst is a run of rows whose steps are short in themselves, and short beside the steps between bursts.
    """
    steps = [b - a for a, b in pairwise(times_ms)]
    long_steps = [step for step in steps if step > MAX_STEP_MS]
    shorts = [step for step in steps if 0 <= step <= MAX_STEP_MS]
    if not shorts or not long_steps or 4 * max(shorts) > min(long_steps):
        return max(_by_equal_times(times_ms), _by_phases(times_ms, steps))
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


def _by_phases(times_ms: Sequence[int], steps: Sequence[int]) -> int:
    """Return 2 or more where steps of different lengths come in turn, as where logs of several nodes were sorted.

    Times in whole seconds say nothing: those of one device at 1.5 s look so too.
    """
    if len(steps) < _MIN_PHASED_STEPS or all(t_ms % 1000 == 0 for t_ms in times_ms):
        return 1
    for count in range(2, min(_MAX_PHASES, len(steps) // MIN_ROUNDS) + 1):
        phases = [steps[phase::count] for phase in range(count)]
        usual = [median_low(phase) for phase in phases]
        spread = max(usual) - min(usual)
        if spread < _PHASE_SPREAD * sum(usual) / count:
            continue
        steady = sum(abs(step - usual[i % count]) * 4 <= spread for i, step in enumerate(steps))
        if steady >= _STEADY_SHARE * len(steps):
            return count
    return 1


def differ_in_turn(values: Sequence[float], count: int) -> bool:
    """Return True if every `count`-th value is of another level than those beside it: they are of several devices.

    The values of one device that is read several times in a tick are about the same.
    """
    rounds = [values[i : i + count] for i in range(0, len(values) - count + 1, count)]
    levels = [median_low(turn[i] for turn in rounds) for i in range(count)]
    spread = max(levels) - min(levels)
    low, high = levels.index(min(levels)), levels.index(max(levels))
    in_turn = sum(turn[low] < turn[high] for turn in rounds)
    return spread > _LEVEL_SPREAD * max(levels) and in_turn >= _SHARE * len(rounds)


def _usual(sizes: Counter[int], last: int) -> int:
    """Return the usual size of bursts. The last one counts if it is whole: the file may end within it."""
    if last in sizes:
        sizes[last] += 1
    bursts = sum(sizes.values())
    if bursts < MIN_BURSTS:
        return 1
    size, count = sizes.most_common(1)[0]
    return size if count >= _SHARE * bursts else 1
