"""Values of the ledger over time, for forecasts and anomalies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from contracts.errors import BadQuery
from contracts.units import epoch_ms
from warehouse.chargeback.chargeback_queries import chargeback_all
from warehouse.chargeback.dimensions import TIMES
from warehouse.chargeback.rollups import known_steps
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader

MEASURES = ("energy_uj", "cost", "tokens", "joules_per_token", "joules_per_output_token", "requests", "kwh", "gco2")
"""Fields of ChargebackRow that a series can follow."""
_ALL = Filter()


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time. A value is None where it is unknown: no price, no tokens."""

    points: dict[str, list[tuple[int, Any]]]
    """By the value of `by` ("" without one): (start of the step in epoch ms, value), in order of time."""
    steps: frozenset[int]
    """Starts of the steps in which the ledger has any row, of any tenant. A step outside them is unknown, not 0."""
    simulated: frozenset[str]
    """Keys that hold simulated energy."""
    currency: str
    """Currency of a cost; empty where there is none."""


def read_measures(
    reader: LedgerReader,
    period: Period,
    measures: Sequence[str],
    by: str | None = "tenant",
    freq: str = "day",
    filter: Filter = _ALL,
) -> dict[str, Series]:
    """Return series of several measures from one reading of the ledger, final windows only.

    Steps are hours or days (`freq`). There is one series per value of `by`; None: one of everything.
    """
    for measure in measures:
        if measure not in MEASURES:
            raise BadQuery("measure", measure, f"one of {', '.join(MEASURES)}")
    if freq not in ("hour", "day"):
        raise BadQuery("freq", freq, "give hour or day")
    if by in TIMES:
        raise BadQuery("by", by, "a series is already over time: group by another dimension")
    keys = [by] if by else []
    rows = chargeback_all(reader, period, [*keys, freq], filter)
    simulated = frozenset(getattr(row, by) if by else "" for row in rows if row.simulated)
    currency = next((row.currency for row in rows if row.currency), "")
    points: dict[str, dict[str, list[tuple[int, Any]]]] = {measure: {} for measure in measures}
    for row in rows:
        key, at = getattr(row, by) if by else "", epoch_ms(getattr(row, freq))
        for measure in measures:
            points[measure].setdefault(key, []).append((at, getattr(row, measure)))
    steps = known_steps(reader, period, freq)
    return {measure: Series(points[measure], steps, simulated, currency) for measure in measures}
