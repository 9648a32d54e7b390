"""Windows for which a query is due."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.meters.windows import MeterSchedule, MeterWindow

MINUTE = 60_000
EACH_MINUTE = MeterSchedule(MINUTE, offset_ms=30_000, max_windows=3)


@pytest.mark.parametrize(
    ("last_ms", "now_ms", "windows", "more"),
    [
        (None, 10 * MINUTE, [MeterWindow(8 * MINUTE, 9 * MINUTE)], False),
        (None, 10 * MINUTE + 30_000, [MeterWindow(9 * MINUTE, 10 * MINUTE)], False),
        (9 * MINUTE, 10 * MINUTE + 29_999, [], False),
        (9 * MINUTE, 10 * MINUTE + 30_000, [MeterWindow(9 * MINUTE, 10 * MINUTE)], False),
        (9 * MINUTE, 15 * MINUTE, [MeterWindow(n * MINUTE, (n + 1) * MINUTE) for n in (9, 10, 11)], True),
        (9 * MINUTE, 5 * MINUTE, [], False),
        (9 * MINUTE + 1, 11 * MINUTE + 30_000, [MeterWindow(10 * MINUTE, 11 * MINUTE)], False),
    ],
    ids=[
        "the first time the last that is due", "due at its offset to the ms", "not due yet", "the next",
        "a few at a time", "a clock set back", "another length than before: the next whole one",
    ],
)  # fmt: skip
def test_the_windows_since_the_checkpoint_are_due(
    last_ms: int | None, now_ms: int, windows: list[MeterWindow], more: bool
) -> None:
    assert EACH_MINUTE.due(last_ms, now_ms) == (windows, more)


@given(st.lists(st.integers(0, 20 * MINUTE), min_size=1), st.integers(1, 5))
def test_windows_follow_each_other_without_gaps_or_overlaps(waits: list[int], max_windows: int) -> None:
    schedule, now_ms, last_ms, seen = EACH_MINUTE._replace(max_windows=max_windows), 100 * MINUTE, None, []
    for wait in waits:
        now_ms += wait
        more = True
        while more:
            windows, more = schedule.due(last_ms, now_ms)
            seen += windows
            last_ms = windows[-1].t1_ms if windows else last_ms
    assert all(a.t1_ms == b.t0_ms for a, b in pairwise(seen))
    assert seen[-1].t1_ms <= now_ms - schedule.offset_ms < seen[-1].t1_ms + MINUTE
