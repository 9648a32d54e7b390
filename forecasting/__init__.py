"""Forecasts, month totals and anomalies of time series.

Pure: no database, no HTTP, no clock, no logging. Randomness is a parameter.

    series = regular(rows, step_ms=MS_PER_DAY, until_ms=now_ms)
    forecast(series, 30, season=7, unit="kWh")
    next_month(series, as_of=now, rng=np.random.default_rng(seed), unit="USD")
    anomalies(series, season=7, unit="J/token")

docs/forecasting.md explains the methods and reports their accuracy on real data.
"""

from forecasting.anomaly_detection import Anomaly, Detection, anomalies, detect
from forecasting.backtest import Backtest, BacktestScore
from forecasting.month_forecast import MonthForecast, MonthTotal, SumBacktest, next_month
from forecasting.point_forecast import Forecast, ForecastPoint, forecast
from forecasting.series import daily, regular

__all__ = [
    "Anomaly", "Backtest", "BacktestScore", "Detection", "Forecast", "ForecastPoint", "MonthForecast", "MonthTotal",
    "SumBacktest", "anomalies", "daily", "detect", "forecast", "next_month", "regular",
]  # fmt: skip
