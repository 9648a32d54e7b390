"""Forecasts of the ledger's series as rows for JSON and CSV. Estimates are floats and never bookings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from api.ledger_series import TOTAL, check_grouping, read_series
from api.serialization import plain
from contracts.units import EpochMs
from forecasting.backtest import Backtest
from forecasting.ledger_forecast import HISTORY_MS, LedgerForecast, check_horizon, forecast_largest
from forecasting.ledger_series import Frequency, check_top
from forecasting.month_forecast import MonthTotal
from warehouse.filters import Filter
from warehouse.periods import newest
from warehouse.reader import LedgerReader
from warehouse.results import Time

_ALL = Filter()
ForecastMeasure = Literal["energy", "cost", "tokens", "gco2"]


@dataclass(frozen=True, slots=True)
class ForecastStep:
    """One step ahead, with 80 and 95 % intervals, in the series' unit."""

    time: Time
    mean: float
    lower_80: float
    upper_80: float
    lower_95: float
    upper_95: float


@dataclass(frozen=True, slots=True)
class MonthRow:
    """Total of a calendar month. `to_date` is the part of `mean` that is already measured."""

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
    """Accuracy of a model on the past. MASE below 1 beats the naive forecast; coverages should be near 0.80 and 0.95.

    Scores are null if the model could not be fitted; `note` says why.
    """

    model: str
    mase: float | None
    wape: float | None
    coverage_80: float | None
    coverage_95: float | None
    note: str


@dataclass(frozen=True, slots=True)
class SeriesForecast:
    """Forecast of one series, or in `withheld` the reason why there is none. `history_steps` counts its known steps."""

    key: str
    measure: str
    unit: str
    freq: str
    model: str
    withheld: str
    history_steps: int
    filled_steps: int
    steps: list[ForecastStep]
    this_month: MonthRow | None
    next_month: MonthRow | None
    month_withheld: str
    backtest: list[ModelScore]
    simulated: bool


def forecast_report(
    reader: LedgerReader,
    *,
    measure: ForecastMeasure = "cost",
    by: str = TOTAL,
    freq: Frequency = "day",
    horizon: int = 30,
    filter: Filter = _ALL,
    top: int = 5,
) -> list[SeriesForecast]:
    """Forecast the `top` largest series and, from daily series, the totals of the current and the next month.

    The present is the end of the newest final window, not the wall clock, so a replay of last year is forecast from
    last year. Raises BadQuery for an impossible grouping, horizon or top.
    """
    check_grouping(by)
    check_top(top)
    check_horizon(horizon, freq)
    now_ms = newest(reader).final_end
    if now_ms is None:
        return []
    (group,) = read_series(
        reader,
        [measure],
        by=by,
        frequency=freq,
        now_ms=now_ms,
        history_ms=HISTORY_MS[freq],
        filter=filter,
    )
    forecasts = forecast_largest(group, frequency=freq, horizon=horizon, top=top, now_ms=now_ms)
    return [_row(forecast, measure, freq) for forecast in forecasts]


def step_rows(forecasts: list[SeriesForecast]) -> list[dict[str, Any]]:
    """Return the steps of all series as flat rows for CSV."""
    return [
        {"key": row.key, "measure": row.measure, "unit": row.unit, **plain(step)}
        for row in forecasts
        for step in row.steps
    ]


def _row(forecast: LedgerForecast, measure: str, freq: str) -> SeriesForecast:
    steps, months = forecast.steps, forecast.months
    return SeriesForecast(
        key=forecast.key,
        measure=measure,
        unit=steps.unit,
        freq=freq,
        model=steps.model,
        withheld=steps.withheld,
        history_steps=steps.history_points,
        filled_steps=steps.filled_points,
        steps=[
            ForecastStep(EpochMs(p.t_ms), *map(float, (p.mean, p.lower_80, p.upper_80, p.lower_95, p.upper_95)))
            for p in steps.points
        ],
        this_month=_month(months.current if months else None),
        next_month=_month(months.next if months else None),
        month_withheld=forecast.months_withheld,
        backtest=_scores(steps.backtest),
        simulated=forecast.simulated,
    )


def _month(total: MonthTotal | None) -> MonthRow | None:
    if total is None:
        return None
    values = (total.mean, total.lower_80, total.upper_80, total.lower_95, total.upper_95, total.to_date)
    return MonthRow(EpochMs(total.start_ms), EpochMs(total.end_ms), *map(float, values))


def _scores(backtest: Backtest | None) -> list[ModelScore]:
    return [
        ModelScore(s.name, _finite(s.mase), _finite(s.wape), _finite(s.coverage_80), _finite(s.coverage_95), s.note)
        for s in (backtest.scores if backtest else ())
    ]


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
