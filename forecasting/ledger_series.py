"""Series of a ledger: for one measure, the series of every key, such as every tenant.

The rules here turn rows of a ledger into series: which steps are known, which values are 0, and which keys are largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import pandas as pd

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from forecasting.series import regular

Frequency = Literal["hour", "day"]
Measure = Literal["energy", "cost", "tokens", "gco2", "joules_per_token"]
Value = float | int | Decimal | None
"""None means unknown: energy without a price, or a ratio without tokens."""

STEP_MS: Mapping[Frequency, int] = {"day": MS_PER_DAY, "hour": MS_PER_HOUR}
MAX_SERIES = 20
"""Series per question: each costs up to a second of model fitting."""
RATIOS: frozenset[Measure] = frozenset({"joules_per_token"})
"""Measures for which a step without rows is unknown. The other measures add up, and such a step is 0."""


@dataclass(frozen=True, slots=True)
class SeriesGroup:
    """Series of one measure by key, from the final rows of a ledger."""

    measure: Measure
    unit: str
    points: Mapping[str, Sequence[tuple[int, Value]]]
    """By key: (start of the step in epoch ms, value), in time order."""
    known_steps: frozenset[int]
    """Steps for which the ledger has rows of any key."""
    simulated: frozenset[str]
    """Keys with simulated energy."""

    def largest(self, top: int) -> list[str]:
        """Return the `top` keys with the largest sums; on a tie, in order of name. Raises BadQuery (`check_top`)."""
        check_top(top)
        size = {key: sum(float(value or 0) for _, value in points) for key, points in self.points.items()}
        return sorted(size, key=lambda key: (-size[key], key))[:top]

    def unknown(self, key: str) -> bool:
        """Return True if no value of the key's series is known."""
        return all(value is None for _, value in self.points[key])

    def regular(self, key: str, frequency: Frequency, until_ms: int) -> pd.Series:
        """Return the key's series with one value per step that is over by `until_ms`, and NaN for unknown steps."""
        known_steps = frozenset[int]() if self.measure in RATIOS else self.known_steps
        return regular(fill_zeros(self.points[key], known_steps), step_ms=STEP_MS[frequency], until_ms=until_ms)


def check_top(top: int) -> None:
    """Raise BadQuery for a number of series outside 1 to MAX_SERIES."""
    if not 1 <= top <= MAX_SERIES:
        raise BadQuery("top", top, f"give 1 to {MAX_SERIES} series")


def fill_zeros(points: Sequence[tuple[int, Value]], known_steps: frozenset[int]) -> list[tuple[int, float]]:
    """Return the known points of a series, with 0 for each known step in which it has no row.

    Steps before its first row are left out. So are gaps: steps without rows of any key, and unknown values.
    """
    values = dict(points)
    first = min(values, default=0)
    return [
        (t, float(value))
        for t in sorted(known_steps | values.keys())
        if t >= first and (value := values.get(t, 0.0)) is not None
    ]
