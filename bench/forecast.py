"""Accuracy of forecasts and anomalies on real recordings. `python -m bench.forecast [--data DIR]`.

Every number is out of sample: the history before an origin is all that a forecast sees. Origins are spread evenly over
the recording, not chosen. Data: see docs/forecasting.md; `--data` (or WATTLOG_SHARED_DATA) names the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from contracts.units import MS_PER_DAY
from forecasting import Anomaly, anomalies, daily, forecast, next_month
from forecasting.models import is_baseline
from forecasting.series import F64

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared_data() -> Path:
    """The folder of recordings, which may be absent."""
    return Path(os.environ.get("WATTLOG_SHARED_DATA", DEFAULT_DATA))


def opsd(data: Path, column: str = "Consumption") -> pd.Series:
    """Germany, GWh a day, 2006-2017 (Open Power System Data); wind and solar start late."""
    frame = pd.read_csv(data / "forecast/opsd_germany_daily.csv", parse_dates=["Date"], index_col="Date")
    return frame[column].loc[frame[column].first_valid_index() :].asfreq("D").tz_localize("UTC")


def ercot(data: Path) -> dict[str, pd.Series]:
    """Eight hourly loads of Texas, MW, six weeks of 2021 (Nixtla)."""
    frame = pd.read_csv(data / "forecast/ercot_multiple_ts.csv", parse_dates=["timestamp"], index_col="timestamp")
    return {name: part["value"].asfreq("h").tz_localize("UTC") for name, part in frame.groupby("unique_id")}


Window = tuple[pd.Timestamp, pd.Timestamp]


def nab(data: Path) -> dict[str, tuple[pd.Series, int, list[Window]]]:
    """(series, season in steps, labelled windows) of the Numenta recordings: 5-minute days, or hourly weeks."""
    labels: dict[str, list[list[str]]] = json.loads((data / "anomaly/combined_windows_dev.json").read_text())
    out = {}
    for name, windows in labels.items():
        frame = pd.read_csv(data / "anomaly" / name, parse_dates=["timestamp"], index_col="timestamp")
        step, season = ("5min", 288) if "artificial" in name else ("h", 168)
        values = frame["value"].groupby(frame.index.floor(step)).first()
        spans = [(pd.Timestamp(a, tz="UTC"), pd.Timestamp(b, tz="UTC")) for a, b in windows]
        out[name] = (values.asfreq(step).tz_localize("UTC"), season, spans)
    return out


def overlaps(episode: Anomaly, window: Window) -> bool:
    """Return whether an episode and a labelled window overlap."""
    ms = [int(t.timestamp() * 1000) for t in window]
    return episode.start_ms <= ms[1] and episode.end_ms > ms[0]


@dataclass
class Trial:
    """Held-out results over origins: MASE and coverage of what was forecast, MASE of each candidate that was scored."""

    mase: list[float] = field(default_factory=list)
    naive: list[float] = field(default_factory=list)
    run_rate: list[float] = field(default_factory=list)
    inside: list[tuple[float, float]] = field(default_factory=list)
    wins: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def row(self) -> list[str]:
        covered = np.mean(self.inside, axis=0)
        beat = sum(n for name, n in self.wins.items() if not is_baseline(name))
        return [
            str(len(self.mase)), *(f"{np.mean(v):.3f}" for v in (self.mase, self.naive, self.run_rate)),
            *(f"{c:.2f}" for c in covered), f"{beat}/{len(self.mase)}", f"{1000 * self.seconds / len(self.mase):.0f}",
        ]  # fmt: skip


def trial(series: pd.Series, *, history: int, horizon: int, season: int | tuple[int, ...], origins: int) -> Trial:
    """Forecast from evenly spread origins with `history` steps each, against what came. MASE by the shortest season."""
    out = Trial()
    shortest = season if isinstance(season, int) else season[0]
    month = max(1, 28 * MS_PER_DAY // int((series.index[1] - series.index[0]).total_seconds() * 1000))
    for at in np.linspace(history, len(series) - horizon, origins).astype(int):
        past, actual = series.iloc[at - history : at], series.iloc[at : at + horizon].to_numpy()
        began = time.perf_counter()
        result = forecast(past, horizon, season=season)
        out.seconds += time.perf_counter() - began
        known = past.to_numpy()
        scale = float(np.nanmean(np.abs(known[shortest:] - known[:-shortest])))
        columns = np.array([(p.mean, p.lower_80, p.upper_80, p.lower_95, p.upper_95) for p in result.points]).T

        def mase(guess: F64, actual: F64 = actual, scale: float = scale) -> float:
            return float(np.nanmean(np.abs(guess - actual))) / scale

        out.mase.append(mase(columns[0]))
        out.naive.append(mase(np.resize(pd.Series(known).ffill().to_numpy()[-shortest:], horizon)))
        out.run_rate.append(mase(np.full(horizon, np.nanmean(known[-month:]))))
        there = np.isfinite(actual)
        out.inside.append(
            tuple(float(np.mean(((actual >= columns[i]) & (actual <= columns[i + 1]))[there])) for i in (1, 3))  # type: ignore[arg-type]
        )
        out.wins[result.model] = out.wins.get(result.model, 0) + 1
    return out


def month_trial(series: pd.Series, *, history: int, origins: int, seed: int = 0) -> F64:
    """(covered at 80 %, at 95 %, |error| / actual, run rate's |error| / actual) of next month's total, per origin.

    `as_of` is the origin, at any day of a month, so next month ends up to 61 days ahead.
    """
    rows = []
    for at in np.linspace(history, len(series) - 62, origins).astype(int):
        past = series.iloc[at - history : at]
        result = next_month(past, as_of=series.index[at].to_pydatetime(), rng=np.random.default_rng(seed))
        assert result.next is not None, result.withheld
        total = result.next
        stamps = series.index.as_unit("ms").asi8
        actual = float(series[(stamps >= total.start_ms) & (stamps < total.end_ms)].sum())
        days = (total.end_ms - total.start_ms) / MS_PER_DAY
        rows.append(
            (
                total.lower_80 <= actual <= total.upper_80, total.lower_95 <= actual <= total.upper_95,
                abs(total.mean / actual - 1), abs(float(past.iloc[-28:].mean()) * days / actual - 1),
            )
        )  # fmt: skip
    return np.array(rows, np.float64)


def synthetic(seed: int, days: int) -> pd.Series:
    """A tenant that grows by a random walk (0 to 0.6 % a day, 1 % steps) with quiet weekends and noise. SIMULATED."""
    rng = np.random.default_rng(seed)
    growth = np.exp(np.cumsum(rng.normal(rng.uniform(0, 0.006), 0.01, days)))
    weekend = 1 - rng.uniform(0.1, 0.5) * np.isin(np.arange(days) % 7, (5, 6))
    noise = np.exp(rng.normal(0, rng.uniform(0.03, 0.15), days))
    return pd.Series(growth * weekend * noise, pd.date_range("2026-01-05", periods=days, tz="UTC"))


def _table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _points(data: Path, console: Console) -> None:
    rows = []
    for column in ("Consumption", "Wind", "Solar"):
        for history in (60, 120, 365):
            result = trial(opsd(data, column), history=history, horizon=30, season=7, origins=24)
            rows.append([f"OPSD {column}, {history} d -> 30 d", *result.row()])
    result = trial(opsd(data), history=1095, horizon=30, season=(7, 365), origins=6)
    rows.append(["OPSD Consumption, 1095 d -> 30 d", *result.row()])
    for label, season in (("24", 24), ("24+168", (24, 168))):
        all_trials = Trial()
        for series in ercot(data).values():
            part = trial(series, history=672, horizon=48, season=season, origins=3)
            for name in ("mase", "naive", "run_rate", "inside"):
                getattr(all_trials, name).extend(getattr(part, name))
            all_trials.seconds += part.seconds
            all_trials.wins = {
                k: all_trials.wins.get(k, 0) + part.wins.get(k, 0) for k in {*all_trials.wins, *part.wins}
            }
        rows.append([f"ERCOT hourly, season {label}, 672 h -> 48 h", *all_trials.row()])
    columns = ["recording", "origins", "MASE", "s.-naive", "run rate", "in 80 %", "in 95 %", "non-baseline", "ms each"]
    _table(console, "Held-out forecasts", columns, rows)


def _months(data: Path, console: Console) -> None:
    rows = []
    for history in (60, 120, 365):
        for column in ("Consumption", "Wind", "Solar"):
            got = month_trial(opsd(data, column), history=history, origins=20).mean(axis=0)
            rows.append(
                [f"OPSD {column}, {history} d", "20", *(f"{v:.2f}" for v in got[:2]), *(f"{v:.3f}" for v in got[2:])]
            )
        grown = np.concatenate([month_trial(synthetic(s, history + 62), history=history, origins=1) for s in range(60)])
        got = grown.mean(axis=0)
        rows.append(
            [
                f"SIMULATED growing tenants, {history} d",
                "60",
                *(f"{v:.2f}" for v in got[:2]),
                *(f"{v:.3f}" for v in got[2:]),
            ]
        )
    columns = ["history", "origins", "in 80 %", "in 95 %", "error", "run rate's error"]
    _table(console, "Next month's total", columns, rows)


def anomaly_score(data: Path, *, causal: bool) -> tuple[int, int, int, float]:
    """(windows hit, windows, episodes outside any window, weeks recorded) over the Numenta files, default settings."""
    hits = windows = false = 0
    weeks = 0.0
    for series, season, spans in nab(data).values():
        episodes = anomalies(series, season=season, causal=causal)
        hits += sum(any(overlaps(e, w) for e in episodes) for w in spans)
        windows += len(spans)
        false += sum(not any(overlaps(e, w) for w in spans) for e in episodes)
        weeks += (series.index[-1] - series.index[0]) / pd.Timedelta("7D")
    return hits, windows, false, weeks


def _anomalies(data: Path, console: Console) -> None:
    rows = []
    for causal in (False, True):
        hits, windows, false, weeks = anomaly_score(data, causal=causal)
        rows.append([f"NAB, causal={causal}", f"{hits}/{windows}", str(false), f"{false / weeks:.2f}"])
    clean = sum(len(anomalies(s, season=168)) for s in ercot(data).values())
    rows.append(["ERCOT loads (no labels)", "-", str(clean), f"{clean / (8 * 1000 / 168):.2f}"])
    _table(console, "Anomalies", ["recording", "windows hit", "episodes outside", "per week"], rows)


def _speed(console: Console) -> None:
    tenants = [synthetic(s, 120) for s in range(10)]
    hours = np.random.default_rng(0).gamma(20, 1, 2928)
    hourly = pd.Series(hours, pd.date_range("2026-01-05", periods=len(hours), freq="h", tz="UTC"))
    jobs = {
        "10 tenants x 120 days, forecast 30 with backtest": lambda: [forecast(t, 30, season=7) for t in tenants],
        "10 tenants x 120 days, next_month": lambda: [
            next_month(t, as_of=t.index[-1].to_pydatetime(), rng=np.random.default_rng(0)) for t in tenants
        ],
        "anomalies of 2,928 hours, season 168": lambda: anomalies(hourly, season=168),
        "2,928 hours to days": lambda: daily(hourly),
    }
    rows = []
    for name, job in jobs.items():
        began = time.perf_counter()
        job()  # type: ignore[no-untyped-call]
        rows.append([name, f"{time.perf_counter() - began:.3f}"])
    _table(console, "Speed", ["job", "s"], rows)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared_data())
    data = parser.parse_args().data
    console = Console(width=140)
    _speed(console)
    if not (data / "forecast").is_dir():
        parser.exit(1, f"no recordings under {data}: name their folder with --data\n")
    _anomalies(data, console)
    _points(data, console)
    _months(data, console)


if __name__ == "__main__":
    main()
