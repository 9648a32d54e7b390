"""Anomalies in the largest series of a ledger, over several measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contracts.units import MS_PER_DAY
from forecasting.anomaly_detection import Anomaly, Detection, detect
from forecasting.ledger_series import Frequency, Measure, SeriesGroup

HISTORY_MS: Mapping[Frequency, int] = {"day": 400 * MS_PER_DAY, "hour": 126 * MS_PER_DAY}
"""Length of history that is judged."""
MEASURES: tuple[Measure, ...] = ("cost", "energy", "joules_per_token")
"""Measures that are judged unless the caller names others."""
GROUPING: Mapping[Measure, str] = {
    "cost": "tenant",
    "energy": "tenant",
    "tokens": "tenant",
    "gco2": "tenant",
    "joules_per_token": "workload",
}
"""Default grouping of each measure. Its own use drives a tenant's bill; hardware drives a workload's J/token."""


@dataclass(frozen=True, slots=True)
class LedgerEpisode:
    """Anomaly of one key's series."""

    measure: Measure
    key: str
    unit: str
    simulated: bool
    anomaly: Anomaly


@dataclass(frozen=True, slots=True)
class UnjudgedSeries:
    """Series that could not be judged. The absence of episodes says nothing about it."""

    measure: Measure
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerAnomalies:
    """Episodes of all series, newest first, and the series that could not be judged."""

    episodes: list[LedgerEpisode]
    unjudged: list[UnjudgedSeries]
    judged: int
    """Number of series that were judged."""


def report_anomalies(groups: Iterable[SeriesGroup], *, frequency: Frequency, top: int, now_ms: int) -> LedgerAnomalies:
    """Judge the `top` largest series of each group up to `now_ms`. Raises BadQuery for a `top` out of range."""
    episodes: list[LedgerEpisode] = []
    unjudged: list[UnjudgedSeries] = []
    judged = 0
    for group in groups:
        for key in group.largest(top):
            if group.unknown(key):
                continue  # Energy of unallocated GPUs has no J/token, for example.
            detection = _detect(group, key, frequency, now_ms)
            if detection.withheld:
                unjudged.append(UnjudgedSeries(group.measure, key, detection.withheld))
                continue
            judged += 1
            simulated = key in group.simulated
            episodes += [
                LedgerEpisode(group.measure, key, group.unit, simulated, anomaly) for anomaly in detection.episodes
            ]
    episodes.sort(key=lambda e: (-e.anomaly.start_ms, -e.anomaly.score, e.measure, e.key))
    return LedgerAnomalies(episodes, unjudged, judged)


def _detect(group: SeriesGroup, key: str, frequency: Frequency, now_ms: int) -> Detection:
    history = group.regular(key, frequency, now_ms)
    # Four weeks of hours are enough for a weekly season, which keeps weekends from being anomalies.
    season = 7 if frequency == "day" else (168 if len(history) >= 4 * 168 else 24)
    return detect(history, season=season, unit=group.unit)
