"""Anomalies in the ledger's series as rows for JSON and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from api.ledger_series import check_grouping, read_series
from contracts.units import EpochMs
from forecasting.ledger_anomalies import GROUPING, HISTORY_MS, LedgerEpisode, report_anomalies
from forecasting.ledger_series import MAX_SERIES, Frequency, SeriesGroup, check_top
from warehouse.filters import Filter
from warehouse.periods import newest
from warehouse.reader import LedgerReader
from warehouse.results import Time

AnomalyMeasure = Literal["energy", "cost", "tokens", "joules_per_token"]
_ALL = Filter()
DEFAULT_MEASURES: tuple[AnomalyMeasure, ...] = ("cost", "energy", "joules_per_token")


@dataclass(frozen=True, slots=True)
class Episode:
    """Time in which a series deviated from its past.

    `expected` and `actual` are means per step. `excess` is the sum of what was above (or below) the expectation.
    `score` is in standard deviations.
    """

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
    """Series that was not judged. The absence of episodes says nothing about it."""

    measure: str
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class AnomalyReport:
    """Episodes, newest first, and the series that could not be judged. `judged` counts series."""

    episodes: list[Episode]
    withheld: list[Withheld]
    judged: int


def anomaly_report(
    reader: LedgerReader,
    *,
    measures: Sequence[AnomalyMeasure] = DEFAULT_MEASURES,
    by: str | None = None,
    freq: Frequency = "day",
    filter: Filter = _ALL,
    top: int = MAX_SERIES,
) -> AnomalyReport:
    """Find the anomalies in the `top` largest series of each measure.

    Each measure has a default grouping (`forecasting.ledger_anomalies.GROUPING`); `by` replaces it. The present is the
    end of the newest final window, not the wall clock. Raises BadQuery for an impossible grouping or top.
    """
    groupings = sorted({by or GROUPING[measure] for measure in measures})
    for grouping in groupings:
        check_grouping(grouping)
    check_top(top)
    now_ms = newest(reader).final_end
    if now_ms is None:
        return AnomalyReport([], [], 0)
    groups: list[SeriesGroup] = []
    for grouping in groupings:
        groups += read_series(
            reader,
            [measure for measure in measures if (by or GROUPING[measure]) == grouping],
            by=grouping,
            frequency=freq,
            now_ms=now_ms,
            history_ms=HISTORY_MS[freq],
            filter=filter,
        )
    report = report_anomalies(groups, frequency=freq, top=top, now_ms=now_ms)
    return AnomalyReport(
        episodes=[_episode(episode) for episode in report.episodes],
        withheld=[Withheld(series.measure, series.key, series.reason) for series in report.unjudged],
        judged=report.judged,
    )


def _episode(episode: LedgerEpisode) -> Episode:
    anomaly = episode.anomaly
    return Episode(
        start=EpochMs(anomaly.start_ms),
        end=EpochMs(anomaly.end_ms),
        measure=episode.measure,
        key=episode.key,
        kind=anomaly.kind,
        direction=anomaly.direction,
        unit=episode.unit,
        expected=float(anomaly.expected),
        actual=float(anomaly.actual),
        excess=float(anomaly.excess),
        score=float(anomaly.score),
        ongoing=bool(anomaly.ongoing),
        reason=anomaly.reason,
        simulated=episode.simulated,
    )
