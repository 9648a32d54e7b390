"""Examples of forecasts and anomalies."""

from __future__ import annotations

from api.anomaly_report import Episode, Withheld
from api.examples.common import END
from api.forecast_report import ForecastStep, ModelScore, MonthRow, SeriesForecast
from api.serialization import plain, plain_rows, to_csv
from contracts.units import epoch_ms

_FORECAST_STEP = ForecastStep(END, 3.06, 3.04, 3.09, 3.01, 3.11)
_MONTH = MonthRow(
    start=END,
    end=epoch_ms("2026-12-01"),
    mean=92.1,
    lower_80=90.4,
    upper_80=93.9,
    lower_95=89.2,
    upper_95=95.0,
    to_date=0.0,
)
_FORECAST = SeriesForecast(
    key="",
    measure="cost",
    unit="USD",
    freq="day",
    model="ets",
    withheld="",
    history_steps=122,
    filled_steps=0,
    steps=[_FORECAST_STEP],
    this_month=_MONTH,
    next_month=None,
    month_withheld="",
    backtest=[
        ModelScore("seasonal_naive", 1.0, 0.05, 0.8, 0.94, ""),
        ModelScore("ets", 0.75, 0.02, 0.79, 0.95, ""),
    ],
    simulated=False,
)
FORECAST = {"simulated": False, "rows": plain_rows([_FORECAST]), "next": None}
_FLAT = {"key": "", "measure": "cost", "unit": "USD", **plain(_FORECAST_STEP)}
FORECAST_CSV = to_csv([_FLAT], list(_FLAT))

_EPISODES = plain_rows(
    [
        Episode(
            start=epoch_ms("2026-10-12"),
            end=epoch_ms("2026-10-14"),
            measure="joules_per_token",
            key="acme",
            kind="spike",
            direction="up",
            unit="J/token",
            expected=1.02,
            actual=1.71,
            excess=1.38,
            score=14.2,
            ongoing=False,
            reason="1.71 J/token instead of 1.02 over 2 days.",
            simulated=False,
        )
    ]
)
_TOO_SHORT = "history is too short: 3 known points, 21 needed"
ANOMALIES = {
    "simulated": False,
    "judged": 11,
    "withheld": plain_rows([Withheld("cost", "initech", _TOO_SHORT)]),
    "rows": _EPISODES,
    "next": None,
}
