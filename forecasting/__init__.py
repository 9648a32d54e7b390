"""Series in; forecast, month totals and anomalies out.

Pure: no database, no HTTP, no clock, no logging; randomness is passed in.

    series = regular(rows, step_ms=MS_PER_DAY, until_ms=now_ms)
    forecast(series, 30, season=7, unit="kWh")
    next_month(series, as_of=now, rng=np.random.default_rng(seed), unit="USD")
    anomalies(series, season=7, unit="J/token")

docs/forecasting.md says how each works, and how well it did on real data.
"""

from forecasting.anomaly import Anomaly, Detection, anomalies, detect
from forecasting.backtest import Backtest, Score
from forecasting.month import MonthForecast, MonthTotal, SumBacktest, next_month
from forecasting.point import Forecast, ForecastPoint, forecast
from forecasting.series import daily, regular

__all__ = [
    "Anomaly", "Backtest", "Detection", "Forecast", "ForecastPoint", "MonthForecast", "MonthTotal", "Score",
    "SumBacktest", "anomalies", "daily", "detect", "forecast", "next_month", "regular",
]  # fmt: skip
