"""Forecasts of the largest series of a ledger, with the totals of the current and the next month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY
from forecasting.ledger_series import Frequency, SeriesGroup
from forecasting.month_forecast import MonthForecast, next_month
from forecasting.point_forecast import Forecast, forecast

HISTORY_MS: Mapping[Frequency, int] = {"day": 400 * MS_PER_DAY, "hour": 56 * MS_PER_DAY}
"""Length of history that a forecast is made from."""
SEASONS: Mapping[Frequency, tuple[int, ...]] = {"day": (7,), "hour": (24, 168)}
MAX_HORIZON: Mapping[Frequency, int] = {"day": 92, "hour": 14 * 24}
_SEED = 20_260_101
"""Seed of the paths that month totals are drawn from. It is fixed: the same ledger gives the same forecast."""


@dataclass(frozen=True, slots=True)
class LedgerForecast:
    """Forecast of one key's series."""

    key: str
    simulated: bool
    steps: Forecast
    months: MonthForecast | None
    """None for hourly series."""

    @property
    def months_withheld(self) -> str:
        """Reason why there are no month totals; empty if there are."""
        return self.months.withheld if self.months else "months are forecast from daily series"


def forecast_largest(
    group: SeriesGroup, *, frequency: Frequency, horizon: int, top: int, now_ms: int
) -> list[LedgerForecast]:
    """Forecast the `top` largest series `horizon` steps ahead, and month totals from daily series.

    `now_ms` is the end of the history. Raises BadQuery for a `horizon` or `top` out of range.
    """
    check_horizon(horizon, frequency)
    return [_forecast_key(group, key, frequency, horizon, now_ms) for key in group.largest(top)]


def check_horizon(horizon: int, frequency: Frequency) -> None:
    """Raise BadQuery for a number of steps ahead outside 1 to MAX_HORIZON."""
    if not 1 <= horizon <= MAX_HORIZON[frequency]:
        raise BadQuery("horizon", horizon, f"give 1 to {MAX_HORIZON[frequency]} steps of a {frequency}")


def _forecast_key(group: SeriesGroup, key: str, frequency: Frequency, horizon: int, now_ms: int) -> LedgerForecast:
    history = group.regular(key, frequency, now_ms)
    steps = forecast(history, horizon, season=SEASONS[frequency], unit=group.unit)
    months = None
    if frequency == "day":
        months = next_month(history, as_of=now_ms, rng=np.random.default_rng(_SEED), unit=group.unit)
    return LedgerForecast(key, key in group.simulated, steps, months)
