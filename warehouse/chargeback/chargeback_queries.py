"""The questions that people ask of the ledger, typed. One question is one file in queries/.

Periods are half-open `[start_ms, end_ms)`, UTC epoch milliseconds. Every answer is bounded: a `Page` of at most
`pages.MAX_LIMIT` rows with a cursor to the next, or an error that says to ask for less. All raise BadQuery for a
question that cannot be asked, and Unavailable when the warehouse is gone.

Rounding: money is exact to its last digit until one rounding to millionths of the currency, by largest remainder over
the whole answer. So an answer's rows sum to its total, and every grouping of the same energy has the same total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from contracts.errors import BadQuery
from contracts.units import UJ_PER_J, UJ_PER_KWH, epoch_ms
from warehouse.chargeback.dimensions import DIMENSIONS as DIMENSIONS
from warehouse.chargeback.dimensions import check_by, grouping
from warehouse.chargeback.rollups import facts_of
from warehouse.cursors import Key, check_limit, page, read_cursor
from warehouse.results import METHODS, ChargebackRow, MissingPrice, Page

if TYPE_CHECKING:
    from warehouse.client import Warehouse

_MICRO = Decimal(1).scaleb(-6)
_NANO = Decimal(1).scaleb(-9)
_NANO_UNITS = 10**9

MAX_SERIES_ROWS = 500_000


def chargeback(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    by: Sequence[str] = ("tenant",),
    tenant: str | None = None,
    cluster: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[ChargebackRow]:
    """Energy, tokens, J/token, cost and gCO2eq by any of `DIMENSIONS`, sorted by them; `by=()` gives the total.

    Final windows only, from tables of days, hours or windows (`warehouse.chargeback.rollups`), which say the same.
    """
    return chargeback_and_total(
        warehouse, start_ms, end_ms, by=by, tenant=tenant, cluster=cluster, limit=limit, cursor=cursor
    )[0]


def chargeback_and_total(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    by: Sequence[str] = ("tenant",),
    tenant: str | None = None,
    cluster: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> tuple[Page[ChargebackRow], ChargebackRow]:
    """A page of `chargeback` and the `chargeback_total` that all its pages sum to, from one reading of the ledger."""
    by = check_by(by)
    question = ("chargeback", start_ms, end_ms, *by, tenant, cluster)
    after = read_cursor(question, cursor, [str] * len(by))
    total, rows = _chargeback(warehouse, start_ms, end_ms, by, tenant, cluster, check_limit(limit) + 1, after or [])
    return page(question, rows, limit, lambda row: [getattr(row, name) for name in by]), total


def chargeback_total(
    warehouse: Warehouse, start_ms: int, end_ms: int, *, tenant: str | None = None, cluster: str | None = None
) -> ChargebackRow:
    """The one total of a period: what the rows of any grouping of it sum to."""
    return _chargeback(warehouse, start_ms, end_ms, (), tenant, cluster, 1, [])[0]


def chargeback_all(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    by: Sequence[str],
    tenant: str | None = None,
    cluster: str | None = None,
) -> list[ChargebackRow]:
    """Every row of a chargeback, for series and exports in this process. BadQuery past `MAX_SERIES_ROWS`."""
    _, rows = _chargeback(warehouse, start_ms, end_ms, check_by(by), tenant, cluster, MAX_SERIES_ROWS + 1, [])
    if len(rows) > MAX_SERIES_ROWS:
        raise BadQuery(
            "by", ",".join(by), f"more than {MAX_SERIES_ROWS} rows: narrow the period or group more coarsely"
        )
    return rows


def _chargeback(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    by: tuple[str, ...],
    tenant: str | None,
    cluster: str | None,
    limit: int,
    after: Key,
) -> tuple[ChargebackRow, list[ChargebackRow]]:
    """The total, and at most `limit` rows after the key `after`."""
    found = warehouse.ask(
        "chargeback",
        idents={"facts": facts_of(start_ms, end_ms, by), **grouping(by)},
        start_ms=start_ms,
        end_ms=end_ms,
        tenant=tenant or "",
        cluster=cluster or "",
        after=after,
        limit=limit + 1,
    )
    if not found:
        return _chargeback_row((), _EMPTY), []
    total = _chargeback_row((), found[0])
    return total, [_chargeback_row(by, row) for row in found[1:]] if by else [total]


_EMPTY: dict[str, Any] = {
    "keys": [],
    "active_uj": 0,
    "idle_uj": 0,
    "unallocated_uj": 0,
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "completion_tokens": 0,
    "requests": 0,
    "failures": 0,
    "method": 0,
    "simulated": 0,
    "currency": "",
    "missing_prices": [],
    "mixed_currencies": 0,
    "facility_parts": 0,
    "cost_micro": 0,
    "gco2_micro": 0,
}


def _chargeback_row(by: tuple[str, ...], row: Mapping[str, Any]) -> ChargebackRow:
    energy_uj = row["active_uj"] + row["idle_uj"] + row["unallocated_uj"]
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    facility, cost, gco2 = row["facility_parts"], row["cost_micro"], row["gco2_micro"]
    return ChargebackRow(
        energy_uj=energy_uj,
        active_uj=row["active_uj"],
        idle_uj=row["idle_uj"],
        unallocated_uj=row["unallocated_uj"],
        tokens=tokens,
        prompt_tokens=row["prompt_tokens"],
        cached_tokens=row["cached_tokens"],
        completion_tokens=row["completion_tokens"],
        requests=row["requests"],
        failures=row["failures"],
        joules_per_token=joules_per(energy_uj, tokens),
        joules_per_output_token=joules_per(energy_uj, row["completion_tokens"]),
        kwh=kwh_nano(energy_uj),
        kwh_facility=None if facility is None else kwh_nano(facility, _NANO_UNITS),
        cost=None if cost is None else cost * _MICRO,
        currency=row["currency"],
        gco2=None if gco2 is None else gco2 * _MICRO,
        method=METHODS[row["method"]],
        simulated=bool(row["simulated"]),
        missing_prices=[MissingPrice(kind, cluster) for kind, cluster in row["missing_prices"]],
        mixed_currencies=bool(row["mixed_currencies"]),
        **dict(zip(by, row["keys"], strict=True)),
    )


def kwh_nano(energy_uj: int, parts_per_uj: int = 1) -> Decimal:
    """Microjoules (or finer parts of them) as kWh, to nine places (3.6 mJ), half up."""
    unit = UJ_PER_KWH * parts_per_uj // _NANO_UNITS
    return ((2 * energy_uj + unit) // (2 * unit)) * _NANO


def joules_per(energy_uj: int, count: int) -> float | None:
    """Joules per token (a ratio for people, not for the ledger); None without tokens or measured energy."""
    return energy_uj / UJ_PER_J / count if count and energy_uj else None


def efficiency(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    bucket: str = "hour",
    by: Sequence[str] = (),
    tenant: str | None = None,
    cluster: str | None = None,
    limit: int = 1_000,
    cursor: str | None = None,
) -> Page[ChargebackRow]:
    """J/token over time: a chargeback by `bucket` (hour, day or month) and any of model, workload, hardware, ..."""
    if bucket not in ("hour", "day", "month"):
        raise BadQuery("bucket", bucket, "give hour, day or month")
    return chargeback(
        warehouse, start_ms, end_ms, by=[bucket, *by], tenant=tenant, cluster=cluster, limit=limit, cursor=cursor
    )


MEASURES = ("energy_uj", "cost", "tokens", "joules_per_token", "joules_per_output_token", "requests", "kwh", "gco2")
"""What `series` can follow; each is a field of ChargebackRow."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time. A value is None where it is unknown: no price, no tokens."""

    points: dict[str, list[tuple[int, Any]]]
    """By the value of `by` ("" without one): (start of the step in epoch ms, value), in order of time."""
    steps: frozenset[int]
    """Steps for which the ledger has any row, of anybody: what is known to be known."""
    simulated: frozenset[str]
    """Keys that hold simulated energy."""
    currency: str
    """Of a cost; empty where there is none."""


def series(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    measure: str,
    by: str | None = "tenant",
    freq: str = "day",
    tenant: str | None = None,
    cluster: str | None = None,
) -> Series:
    """A measure by hour or day, one series per value of `by` (None: one in all), final windows only."""
    found = several(warehouse, start_ms, end_ms, measures=[measure], by=by, freq=freq, tenant=tenant, cluster=cluster)
    return found[measure]


def several(
    warehouse: Warehouse,
    start_ms: int,
    end_ms: int,
    *,
    measures: Sequence[str],
    by: str | None = "tenant",
    freq: str = "day",
    tenant: str | None = None,
    cluster: str | None = None,
) -> dict[str, Series]:
    """The series of several measures, from one reading of the ledger."""
    for measure in measures:
        if measure not in MEASURES:
            raise BadQuery("measure", measure, f"one of {', '.join(MEASURES)}")
    if freq not in ("hour", "day"):
        raise BadQuery("freq", freq, "give hour or day")
    if by in ("hour", "day", "month"):
        raise BadQuery("by", by, "a series is already over time: group by another dimension")
    keys = [by] if by else []
    rows = chargeback_all(warehouse, start_ms, end_ms, by=[*keys, freq], tenant=tenant, cluster=cluster)
    everybody = chargeback_all(warehouse, start_ms, end_ms, by=[freq]) if by or tenant or cluster else rows
    steps = frozenset(epoch_ms(getattr(row, freq)) for row in everybody)
    simulated = frozenset(getattr(row, by) if by else "" for row in rows if row.simulated)
    currency = next((row.currency for row in rows if row.currency), "")
    points: dict[str, dict[str, list[tuple[int, Any]]]] = {measure: {} for measure in measures}
    for row in rows:
        key, at = getattr(row, by) if by else "", epoch_ms(getattr(row, freq))
        for measure in measures:
            points[measure].setdefault(key, []).append((at, getattr(row, measure)))
    return {measure: Series(points[measure], steps, simulated, currency) for measure in measures}
