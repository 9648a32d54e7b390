"""What comes next: the ledger's series handed to forecasting/. Estimates are floats, never bookings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

import forecasting
from api.series import STEP_MS, TOTAL, UNITS, Freq, check, filled, largest, read
from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, EpochMs
from forecasting import Backtest, MonthTotal
from warehouse.client import Warehouse
from warehouse.periods import newest
from warehouse.results import Time

Measure = Literal["energy", "cost", "tokens", "gco2"]
HISTORY_MS: Mapping[Freq, int] = {"day": 400 * MS_PER_DAY, "hour": 56 * MS_PER_DAY}
"""What a forecast looks back on."""
SEASONS: Mapping[Freq, tuple[int, ...]] = {"day": (7,), "hour": (24, 168)}
MAX_HORIZON: Mapping[Freq, int] = {"day": 92, "hour": 14 * 24}
_SEED = 20_260_101
"""Of the paths that month totals are drawn from: the same ledger gives the same forecast."""


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
    check(by, top)
    if not 1 <= horizon <= MAX_HORIZON[freq]:
        raise BadQuery("horizon", horizon, f"give 1 to {MAX_HORIZON[freq]} steps of a {freq}")
    now = newest(warehouse).final_end
    if now is None:
        return []
    book = read(warehouse, now, HISTORY_MS[freq], [measure], by, freq, tenant, cluster)[measure]
    unit = UNITS.get(measure) or book.currency
    return [
        _forecast_one(key, book.points[key], book.steps, now, measure, unit, freq, horizon, key in book.simulated)
        for key in largest(book, top)
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
    rows = filled(points, known_steps)
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
    def known(value: float | None) -> float | None:
        return float(value) if value is not None and np.isfinite(value) else None

    return [
        ModelScore(s.name, known(s.mase), known(s.wape), known(s.coverage_80), known(s.coverage_95), s.note)
        for s in (tested.scores if tested else ())
    ]
