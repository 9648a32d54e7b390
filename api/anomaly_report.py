"""What was odd: the ledger's series judged by forecasting/, as typed episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import forecasting
from api.series import MAX_SERIES, STEP_MS, UNITS, Freq, check, filled, largest, read
from contracts.units import MS_PER_DAY, EpochMs
from forecasting import Anomaly, Detection
from warehouse.chargeback.chargeback_queries import Series
from warehouse.client import Warehouse
from warehouse.periods import newest
from warehouse.results import Time

OddMeasure = Literal["energy", "cost", "tokens", "joules_per_token"]
JUDGED_MS: Mapping[Freq, int] = {"day": 400 * MS_PER_DAY, "hour": 126 * MS_PER_DAY}
"""What anomalies are sought in."""
GROUPED: Mapping[OddMeasure, str] = {
    "cost": "tenant",
    "energy": "tenant",
    "tokens": "tenant",
    "joules_per_token": "workload",
}
"""Where each measure tells most: a tenant's bill grows by its own use, J/token by what its workload runs on."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A time in which a series was odd. `expected` and `actual` are means a step, `excess` the sum of what was more (or
    less) than expected; `score` is in standard deviations."""

    start: Time
    end: Time
    measure: str
    key: str
    kind: str
    direction: str
    unit: str
    expected: float
    actual: float
    excess: float
    score: float
    ongoing: bool
    reason: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class Withheld:
    """A series that was not judged: no episodes of it is no clean bill."""

    measure: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Oddities:
    """Episodes, newest first, and what could not be judged. `judged` counts series."""

    episodes: list[Episode]
    withheld: list[Withheld]
    judged: int


def anomalies(
    warehouse: Warehouse,
    *,
    measures: Sequence[OddMeasure] = ("cost", "energy", "joules_per_token"),
    by: str | None = None,
    freq: Freq = "day",
    tenant: str | None = None,
    cluster: str | None = None,
    top: int = MAX_SERIES,
) -> Oddities:
    """Odd episodes of the `top` largest series of each measure, grouped as `GROUPED` says unless `by` is given.

    Raises BadQuery for an impossible grouping or top.
    """
    now = newest(warehouse).final_end
    if now is None:
        return Oddities([], [], 0)
    books: dict[str, Series] = {}
    for group in sorted({by or GROUPED[measure] for measure in measures}):
        check(group, top)
        grouped = [m for m in measures if (by or GROUPED[m]) == group]
        books |= read(warehouse, now, JUDGED_MS[freq], grouped, group, freq, tenant, cluster)
    episodes: list[Episode] = []
    withheld: list[Withheld] = []
    judged = 0
    for measure, book in books.items():
        unit = UNITS.get(measure) or book.currency
        for key in largest(book, top):
            if all(value is None for _, value in book.points[key]):
                continue  # GPUs that nobody holds have no J/token.
            found = _judge(book, key, measure, unit, freq, now)
            if found.withheld:
                withheld.append(Withheld(measure, key, found.withheld))
                continue
            judged += 1
            simulated = key in book.simulated
            episodes += [_episode(odd, measure, key, unit, simulated) for odd in found.episodes]
    episodes.sort(key=lambda e: (-e.start, -e.score, e.measure, e.key))
    return Oddities(episodes, withheld, judged)


def _judge(book: Series, key: str, measure: str, unit: str, freq: Freq, now: int) -> Detection:
    # Without tokens there is no J/token: such a step is unknown, not 0.
    steps = frozenset[int]() if measure == "joules_per_token" else book.steps
    rows = filled(book.points[key], steps)
    history = forecasting.regular(rows, step_ms=STEP_MS[freq], until_ms=now)
    season = 7 if freq == "day" else (168 if len(history) >= 4 * 168 else 24)
    return forecasting.detect(history, season=season, unit=unit)


def _episode(odd: Anomaly, measure: str, key: str, unit: str, simulated: bool) -> Episode:
    return Episode(
        start=EpochMs(odd.start_ms),
        end=EpochMs(odd.end_ms),
        measure=measure,
        key=key,
        kind=odd.kind,
        direction=odd.direction,
        unit=unit,
        expected=float(odd.expected),
        actual=float(odd.actual),
        excess=float(odd.excess),
        score=float(odd.score),
        ongoing=bool(odd.ongoing),
        reason=odd.reason,
        simulated=simulated,
    )
