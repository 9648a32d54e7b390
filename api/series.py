"""The ledger's series as forecasting/ wants them. "Now" is the end of the newest final window, never the wall clock, so
that a replay of last year is forecast from last year. What is read is bounded, and how many series are worked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from contracts.errors import BadQuery
from contracts.units import MS_PER_DAY, MS_PER_HOUR
from warehouse.chargeback.chargeback_queries import DIMENSIONS, Series, several
from warehouse.client import Warehouse

Freq = Literal["hour", "day"]
TOTAL = "total"
"""`by` this: one series of everything."""
BYS = (TOTAL, *(name for name in DIMENSIONS if name not in ("hour", "day", "month")))
MAX_SERIES = 20
STEP_MS: Mapping[Freq, int] = {"day": MS_PER_DAY, "hour": MS_PER_HOUR}

FIELDS = {
    "energy": "kwh",
    "cost": "cost",
    "tokens": "tokens",
    "gco2": "gco2",
    "joules_per_token": "joules_per_token",
}
UNITS = {"energy": "kWh", "tokens": "tokens", "gco2": "gCO2eq", "joules_per_token": "J/token"}
"""Of a cost it is the currency."""


def check(by: str, top: int) -> None:
    """Raises BadQuery for a grouping that there is not, or too many series."""
    if by not in BYS:
        raise BadQuery("by", by, f"one of {', '.join(BYS)}")
    if not 1 <= top <= MAX_SERIES:
        raise BadQuery("top", top, f"give 1 to {MAX_SERIES} series")


def read(
    warehouse: Warehouse,
    now: int,
    history_ms: int,
    measures: Sequence[str],
    by: str,
    freq: Freq,
    tenant: str | None,
    cluster: str | None,
) -> dict[str, Series]:
    """The ledger's series up to the hour after `now`, so that the hourly table answers."""
    start = max(0, (now - history_ms) // MS_PER_DAY * MS_PER_DAY)
    end = -(-now // MS_PER_HOUR) * MS_PER_HOUR
    dimension = None if by == TOTAL else by
    fields = {measure: FIELDS[measure] for measure in measures}
    found = several(
        warehouse,
        start,
        end,
        measures=list(fields.values()),
        by=dimension,
        freq=freq,
        tenant=tenant,
        cluster=cluster,
    )
    return {measure: found[field] for measure, field in fields.items()}


def largest(book: Series, top: int) -> list[str]:
    """The keys with the most, then by name."""
    size = {key: sum(float(value or 0) for _, value in points) for key, points in book.points.items()}
    return sorted(size, key=lambda key: (-size[key], key))[:top]


def filled(points: Sequence[tuple[int, float | None]], known_steps: frozenset[int]) -> list[tuple[int, float]]:
    """A step in which the ledger has rows, but none of this key, is 0. A step without any rows, or whose value is
    unknown (no price), is a gap: it stays out."""
    have = dict(points)
    first = min(have, default=0)
    return [
        (t, 0.0 if t not in have else float(value))
        for t in sorted(known_steps | have.keys())
        if t >= first and (value := have.get(t, 0.0)) is not None
    ]
