"""Time that at least one of many overlapping intervals covers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class CoveredTime:
    """Union of intervals, kept as disjoint spans in order: as many as there are gaps."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start_ms: int, end_ms: int) -> None:
        """Add `[start_ms, end_ms)`. Intervals may come in any order."""
        first, after = bisect_left(self._ends, start_ms), bisect_right(self._starts, end_ms)
        if first < after:  # The spans that it touches become one.
            start_ms, end_ms = min(start_ms, self._starts[first]), max(end_ms, self._ends[after - 1])
        self._starts[first:after], self._ends[first:after] = [start_ms], [end_ms]

    @property
    def start_ms(self) -> int:
        return self._starts[0]

    @property
    def end_ms(self) -> int:
        return self._ends[-1]

    @property
    def total_ms(self) -> int:
        return sum(self._ends) - sum(self._starts)
