"""What comes next and what was odd: the ledger's series handed to forecasting/, with typed answers.

Estimates are floats, never bookings. "Now" is the end of the newest final window, never the wall clock, so that a
replay of last year forecasts from last year. What pays for the work is bounded: `MAX_SERIES` series, the largest first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import forecasting
from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs
from forecasting import Anomaly, Backtest, Detection, MonthTotal
from warehouse.answers import Time
from warehouse.client import Warehouse
from warehouse.periods import newest
from warehouse.reads import DIMENSIONS, Series, several

Freq = Literal["hour", "day"]
Measure = Literal["energy", "cost", "tokens", "gco2"]
OddMeasure = Literal["energy", "cost", "tokens", "joules_per_token"]
TOTAL = "total"
"""`by` this: one series of everything."""
BYS = (TOTAL, *(name for name in DIMENSIONS if name not in ("hour", "day", "month")))

MAX_SERIES = 20
HISTORY_MS: Mapping[Freq, int] = {"day": 400 * MS_PER_DAY, "hour": 56 * MS_PER_DAY}
"""What a forecast looks back on."""
JUDGED_MS: Mapping[Freq, int] = {"day": 400 * MS_PER_DAY, "hour": 126 * MS_PER_DAY}
"""What anomalies are sought in."""
STEP_MS: Mapping[Freq, int] = {"day": MS_PER_DAY, "hour": MS_PER_HOUR}
SEASONS: Mapping[Freq, tuple[int, ...]] = {"day": (7,), "hour": (24, 168)}
MAX_HORIZON: Mapping[Freq, int] = {"day": 92, "hour": 14 * 24}
_SEED = 20_260_101
"""Of the paths that month totals are drawn from: the same ledger gives the same forecast."""
_FIELDS = {
    "energy": "kwh",
    "cost": "cost",
    "tokens": "tokens",
    "gco2": "gco2",
    "joules_per_token": "joules_per_token",
}
_UNITS = {"energy": "kWh", "tokens": "tokens", "gco2": "gCO2eq", "joules_per_token": "J/token"}


@dataclass(frozen=True, slots=True)
class Step:
    """One step ahead, with 80 and 95 % intervals, in the series' unit."""

    time: Time
    mean: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month's total. `to_date` of `mean` is measured already."""

    start: Time
    end: Time
    mean: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float
    to_date: float


@dataclass(frozen=True, slots=True)
class ModelScore:
    """How a candidate did on the past: MASE below 1 beats the naive forecast; coverages should be near 0.80, 0.95.
    Null: it could not be fitted, and `note` says why."""

    model: str
    mase: float | None
    wape: float | None
    coverage_80: float | None
    coverage_95: float | None
    note: str


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """One series' forecast, or in `withheld` why there is none. `history` are its known steps."""

    key: str
    measure: str
    unit: str
    freq: str
    model: str
    withheld: str
    history_steps: int
    filled_steps: int
    steps: list[Step]
    this_month: Month | None
    next_month: Month | None
    month_withheld: str
    backtest: list[ModelScore]
    simulated: bool


def forecast(
    warehouse: Warehouse,
    *,
    measure: Measure = "cost",
    by: str = TOTAL,
    freq: Freq = "day",
    horizon: int = 30,
    tenant: str | None = None,
    cluster: str | None = None,
    top: int = 5,
) -> list[SeriesForecast]:
    """The forecasts of the `top` largest series, and (daily) the totals of this and the next month.

    Raises BadQuery for a grouping, horizon or top that cannot be.
    """
    _check(by, top)
    if not 1 <= horizon <= MAX_HORIZON[freq]:
        raise BadQuery("horizon", horizon, f"give 1 to {MAX_HORIZON[freq]} steps of a {freq}")
    now = newest(warehouse).final_end
    if now is None:
        return []
    book = _read(warehouse, now, HISTORY_MS[freq], [measure], by, freq, tenant, cluster)[measure]
    unit = _UNITS.get(measure) or book.currency
    return [
        _forecast_one(key, book.points[key], book.steps, now, measure, unit, freq, horizon, key in book.simulated)
        for key in _largest(book, top)
    ]


def _forecast_one(
    key: str,
    points: Sequence[tuple[int, float | None]],
    known_steps: frozenset[int],
    now: EpochMs,
    measure: str,
    unit: str,
    freq: Freq,
    horizon: int,
    simulated: bool,
) -> SeriesForecast:
    rows = _filled(points, known_steps)
    history = forecasting.regular(rows, step_ms=STEP_MS[freq], until_ms=now)
    ahead = forecasting.forecast(history, horizon, season=SEASONS[freq], unit=unit)
    this = following = None
    why = "months are forecast from daily series"
    if freq == "day":
        rng = np.random.default_rng(_SEED)
        months = forecasting.next_month(history, as_of=int(now), rng=rng, unit=unit)
        this, following, why = _month(months.current), _month(months.next), months.withheld
    return SeriesForecast(
        key=key,
        measure=measure,
        unit=unit,
        freq=freq,
        model=ahead.model,
        withheld=ahead.withheld,
        history_steps=ahead.history_points,
        filled_steps=ahead.filled_points,
        steps=[
            Step(EpochMs(p.t_ms), *map(float, (p.mean, p.lower_80, p.upper_80, p.lower_95, p.upper_95)))
            for p in ahead.points
        ],
        this_month=this,
        next_month=following,
        month_withheld=why,
        backtest=_scores(ahead.backtest),
        simulated=simulated,
    )


def _month(total: MonthTotal | None) -> Month | None:
    if total is None:
        return None
    values = (total.mean, total.lower_80, total.upper_80, total.lower_95, total.upper_95, total.to_date)
    return Month(EpochMs(total.start_ms), EpochMs(total.end_ms), *map(float, values))


def _scores(tested: Backtest | None) -> list[ModelScore]:
    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return [
        ModelScore(s.name, known(s.mase), known(s.wape), known(s.coverage_80), known(s.coverage_95), s.note)
        for s in (tested.scores if tested else ())
    ]


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
    by: str = "tenant",
    freq: Freq = "day",
    tenant: str | None = None,
    cluster: str | None = None,
    top: int = MAX_SERIES,
) -> Oddities:
    """Odd episodes of the `top` largest series of each measure. Raises BadQuery for an impossible grouping or top."""
    _check(by, top)
    now = newest(warehouse).final_end
    if now is None:
        return Oddities([], [], 0)
    books = _read(warehouse, now, JUDGED_MS[freq], measures, by, freq, tenant, cluster)
    episodes: list[Episode] = []
    withheld: list[Withheld] = []
    judged = 0
    for measure, book in books.items():
        unit = _UNITS.get(measure) or book.currency
        for key in _largest(book, top):
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
    rows = _filled(book.points[key], steps)
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


def _check(by: str, top: int) -> None:
    if by not in BYS:
        raise BadQuery("by", by, f"one of {', '.join(BYS)}")
    if not 1 <= top <= MAX_SERIES:
        raise BadQuery("top", top, f"give 1 to {MAX_SERIES} series")


def _read(
    warehouse: Warehouse,
    now: int,
    history_ms: int,
    measures: Sequence[str],
    by: str,
    freq: Freq,
    tenant: str | None,
    cluster: str | None,
) -> dict[str, Series]:
    """The ledger's series up to the hour after `now`, so that the hourly table answers."""
    start = max(0, (now - history_ms) // MS_PER_DAY * MS_PER_DAY)
    end = -(-now // MS_PER_HOUR) * MS_PER_HOUR
    dimension = None if by == TOTAL else by
    fields = {measure: _FIELDS[measure] for measure in measures}
    found = several(
        warehouse,
        start,
        end,
        measures=list(fields.values()),
        by=dimension,
        freq=freq,
        tenant=tenant,
        cluster=cluster,
    )
    return {measure: found[field] for measure, field in fields.items()}


def _largest(book: Series, top: int) -> list[str]:
    """The keys with the most, then by name."""
    size = {key: sum(float(value or 0) for _, value in points) for key, points in book.points.items()}
    return sorted(size, key=lambda key: (-size[key], key))[:top]


def _filled(points: Sequence[tuple[int, float | None]], known_steps: frozenset[int]) -> list[tuple[int, float]]:
    """A step in which the ledger has rows, but none of this key, is 0. A step without any rows, or whose value is
    unknown (no price), is a gap: it stays out."""
    have = dict(points)
    first = min(have, default=0)
    return [
        (t, 0.0 if t not in have else float(value))
        for t in sorted(known_steps | have.keys())
        if t >= first and (value := have.get(t, 0.0)) is not None
    ]
