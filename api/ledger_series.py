"""Reads the series of a ledger from the warehouse, for forecasts and anomalies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR, EpochMs
from forecasting.ledger_series import Frequency, Measure, SeriesGroup
from warehouse.chargeback.dimensions import DIMENSIONS, TIMES
from warehouse.chargeback.series import read_measures
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader

TOTAL = "total"
"""Grouping into a single series of everything."""
GROUPINGS = (TOTAL, *(name for name in DIMENSIONS if name not in TIMES))
_FIELDS: Mapping[Measure, str] = {
    "energy": "kwh",
    "cost": "cost",
    "tokens": "tokens",
    "gco2": "gco2",
    "joules_per_token": "joules_per_token",
}
_UNITS: Mapping[Measure, str] = {
    "energy": "kWh",
    "tokens": "tokens",
    "gco2": "gCO2eq",
    "joules_per_token": "J/token",
}


def check_grouping(by: str) -> None:
    """Raise BadQuery for a grouping that does not exist."""
    if by not in GROUPINGS:
        raise BadQuery("by", by, f"give one of {', '.join(GROUPINGS)}")


def read_series(
    reader: LedgerReader,
    measures: Sequence[Measure],
    *,
    by: str,
    frequency: Frequency,
    now_ms: int,
    history_ms: int,
    filter: Filter,
) -> list[SeriesGroup]:
    """Read the series of each measure, one per value of `by`, over the last `history_ms` before `now_ms`.

    The unit of a cost is its currency. Raises BadQuery for a grouping that does not exist.
    """
    check_grouping(by)
    # Full days and hours, so that the tables of days and hours answer.
    start_ms = EpochMs(max(0, (now_ms - history_ms) // MS_PER_DAY * MS_PER_DAY))
    end_ms = EpochMs(-(-now_ms // MS_PER_HOUR) * MS_PER_HOUR)
    series = read_measures(
        reader,
        Period(start_ms, end_ms),
        measures=[_FIELDS[measure] for measure in measures],
        by=None if by == TOTAL else by,
        freq=frequency,
        filter=filter,
    )
    groups = []
    for measure in measures:
        of_measure = series[_FIELDS[measure]]
        unit = _UNITS.get(measure) or of_measure.currency
        groups.append(SeriesGroup(measure, unit, of_measure.points, of_measure.steps, of_measure.simulated))
    return groups
