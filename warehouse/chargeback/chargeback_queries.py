"""Bills: energy, tokens and money by any dimensions. Money is computed in chargeback.sql (see the package).

Every read takes a `LedgerReader`, which binds its tenant, and a half-open `Period`. It returns a `Page` of at most
`cursors.MAX_LIMIT` rows with a cursor to the next, or an error that says to narrow the question. All raise BadQuery for
a question that cannot be answered, AccessDenied for another tenant's rows, and Unavailable when the warehouse is gone.

Rounding: money is exact to its last digit until one rounding to millionths of the currency, by largest remainder over
the whole answer. So an answer's rows sum to its total, and every grouping of the same energy has the same total.

Tokens without measured energy cost an unknown amount, which no sum contains. A row of nothing else has no kWh and no
money (None, not 0); any other says how many of its tokens these are, and its figures are those of the measured ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any

from contracts.boundary import Boundary
from contracts.errors import BadQuery
from contracts.events import TOKENS
from contracts.units import UJ_PER_J, UJ_PER_KWH
from warehouse.chargeback import token_kinds
from warehouse.chargeback.dimensions import DIMENSIONS as DIMENSIONS
from warehouse.chargeback.dimensions import TIMES, check_by
from warehouse.chargeback.question import question_of
from warehouse.chargeback.references import CURRENT, References
from warehouse.cursors import Key, Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import METHODS, ChargebackRow, MissingPrice, Outside

_MICRO = Decimal(1).scaleb(-6)
_NANO = Decimal(1).scaleb(-9)
_NANO_UNITS = 10**9
_BY_TENANT = ("tenant",)
_ALL = Filter()
_FIRST_PAGE = PageRequest()

MAX_ROWS = 500_000
"""Rows that `chargeback_all` returns at most."""
MAX_EXPORT_ROWS = 5_000_000
"""Rows that `chargeback_blocks` yields at most."""


def chargeback(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str] = _BY_TENANT,
    filter: Filter = _ALL,
    page: PageRequest = _FIRST_PAGE,
) -> Page[ChargebackRow]:
    """Return energy, tokens, J/token, cost and gCO2eq by any of `DIMENSIONS`, sorted by them; `by=()` is the total.

    Final windows only, from tables of days, hours or windows (`warehouse.chargeback.rollups`), which hold equal sums.
    """
    return chargeback_and_total(reader, period, by, filter, page)[0]


def chargeback_and_total(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str] = _BY_TENANT,
    filter: Filter = _ALL,
    page: PageRequest = _FIRST_PAGE,
    *,
    per_million: bool = False,
) -> tuple[Page[ChargebackRow], ChargebackRow]:
    """Return a page of `chargeback` and the total that all its pages sum to, from one reading of the ledger.

    `per_million` adds `token_kinds.FIELDS`, from windows: it reads 360 times the rows of hours.
    """
    by = check_by(by)
    question = ("chargeback", period, *by, reader.narrow(filter))
    after = page.after(question, [str] * len(by))
    total, rows = _chargeback(reader, period, by, filter, page.limit + 1, after or [], per_million=per_million)
    return page.cut(question, rows, lambda row: [getattr(row, name) for name in by]), total


def chargeback_total(reader: LedgerReader, period: Period, filter: Filter = _ALL) -> ChargebackRow:
    """Return the one total of a period, which the rows of any grouping of it sum to."""
    return _chargeback(reader, period, (), filter, 1, [])[0]


def chargeback_all(
    reader: LedgerReader,
    period: Period,
    by: Sequence[str],
    filter: Filter = _ALL,
    references: References = CURRENT,
) -> list[ChargebackRow]:
    """Return every row of a chargeback, for series and exports in this process. Raises BadQuery past `MAX_ROWS`."""
    _, rows = _chargeback(reader, period, check_by(by), filter, MAX_ROWS + 1, [], references)
    if len(rows) > MAX_ROWS:
        raise BadQuery("by", ",".join(by), f"more than {MAX_ROWS} rows: narrow the period or group more coarsely")
    return rows


@contextmanager
def chargeback_blocks(
    reader: LedgerReader, period: Period, by: Sequence[str], filter: Filter = _ALL, *, per_million: bool = False
) -> Iterator[tuple[ChargebackRow, Iterator[list[ChargebackRow]]]]:
    """Yield the total, and every row in blocks, for an export: one reading of the ledger, in bounded memory.

    It holds a reader of the warehouse until the block ends. The rows raise BadQuery past `MAX_EXPORT_ROWS`.
    """
    by = check_by(by)
    if not by:
        raise BadQuery("by", "", f"group by any of {', '.join(DIMENSIONS)}")
    reader.narrow(filter)
    if period.start >= period.end:
        yield _chargeback_row((), _EMPTY), iter(())
        return
    name, fragments, params = question_of(reader, period, by, filter, MAX_EXPORT_ROWS + 1, [], per_million=per_million)
    with closing(reader.ask_blocks(name, filter, fragments=fragments, **params)) as blocks:
        first = next(blocks, [])
        total = _chargeback_row((), first[0] if first else _EMPTY)
        yield total, _rows_of_blocks(by, chain([first[1:]], blocks))


def _rows_of_blocks(by: tuple[str, ...], blocks: Iterable[list[dict[str, Any]]]) -> Iterator[list[ChargebackRow]]:
    count = 0
    for block in blocks:
        count += len(block)
        if count > MAX_EXPORT_ROWS:
            fix = f"more than {MAX_EXPORT_ROWS} rows: narrow the period or group more coarsely"
            raise BadQuery("by", ",".join(by), fix)
        yield [_chargeback_row(by, row) for row in block]


def efficiency(
    reader: LedgerReader,
    period: Period,
    bucket: str = "hour",
    by: Sequence[str] = (),
    filter: Filter = _ALL,
    page: PageRequest = _FIRST_PAGE,
    *,
    per_million: bool = False,
) -> Page[ChargebackRow]:
    """Return J/token over time: a chargeback by `bucket` (hour, day, week or month) and any other dimensions."""
    check_bucket(bucket)
    return chargeback_and_total(reader, period, [bucket, *by], filter, page, per_million=per_million)[0]


def check_bucket(bucket: str) -> None:
    """Raise BadQuery for a bucket that does not exist."""
    if bucket not in TIMES:
        raise BadQuery("bucket", bucket, f"give {', '.join(TIMES)}")


def clusters_outside(reader: LedgerReader, period: Period, filter: Filter) -> Outside:
    """Return the clusters with energy, but none of the part that the filter's boundary is named for.

    For hosts, their figures are of GPUs alone, or of nothing if all was measured at the wall. None without a boundary.
    """
    if filter.boundary is None:
        return Outside()
    rows = chargeback_all(reader, period, ("cluster",), replace(filter, boundary=None))
    outside = [row for row in rows if row.energy_uj and not parts_uj(row)[filter.boundary]]
    within = list(Boundary)[: list(Boundary).index(filter.boundary)]
    return Outside(
        clusters_outside=[str(row.cluster) for row in outside],
        clusters_excluded=[str(row.cluster) for row in outside if not any(parts_uj(row)[part] for part in within)],
    )


def parts_uj(row: ChargebackRow) -> dict[Boundary, int]:
    """Return the parts of a row's energy: of GPUs, of hosts, and measured at the wall."""
    gpu_uj = row.energy_uj - row.host_uj - row.wall_uj
    return {Boundary.GPU: gpu_uj, Boundary.HOST: row.host_uj, Boundary.WALL: row.wall_uj}


def _chargeback(
    reader: LedgerReader,
    period: Period,
    by: tuple[str, ...],
    filter: Filter,
    limit: int,
    after: Key,
    references: References = CURRENT,
    *,
    per_million: bool = False,
) -> tuple[ChargebackRow, list[ChargebackRow]]:
    """Return the total, and at most `limit` rows after the key `after`."""
    reader.narrow(filter)
    if period.start >= period.end:
        return _chargeback_row((), _EMPTY), []
    name, fragments, params = question_of(reader, period, by, filter, limit, after, references, per_million=per_million)
    rows = reader.ask(name, filter, fragments=fragments, **params)
    if not rows:
        return _chargeback_row((), _EMPTY), []
    total = _chargeback_row((), rows[0])
    return total, [_chargeback_row(by, row) for row in rows[1:]] if by else [total]


_EMPTY: dict[str, Any] = {
    "keys": [],
    "active_uj": 0,
    "idle_uj": 0,
    "unallocated_uj": 0,
    "host_uj": 0,
    "wall_uj": 0,
    **dict.fromkeys(TOKENS, 0),
    "requests": 0,
    "failures": 0,
    "unmetered_tokens": 0,
    "unmetered_completion_tokens": 0,
    "unmetered_requests": 0,
    "energy_known": 0,
    "method": 0,
    "simulated": 0,
    "currency": "",
    "missing_prices": [],
    "mixed_currencies": 0,
    "facility_nano_uj": None,
    "cost_micro": None,
    "gco2_micro": None,
}
"""The total of no row: nothing was measured, so its money is unknown, not 0."""


def _chargeback_row(by: tuple[str, ...], row: Mapping[str, Any]) -> ChargebackRow:
    energy_uj = row["active_uj"] + row["idle_uj"] + row["unallocated_uj"]
    tokens = row["prompt_tokens"] + row["completion_tokens"]
    metered_completion = row["completion_tokens"] - row["unmetered_completion_tokens"]
    facility, cost, gco2 = row["facility_nano_uj"], row["cost_micro"], row["gco2_micro"]
    return ChargebackRow(
        energy_uj=energy_uj,
        active_uj=row["active_uj"],
        idle_uj=row["idle_uj"],
        unallocated_uj=row["unallocated_uj"],
        tokens=tokens,
        **{name: row[name] for name in TOKENS},
        requests=row["requests"],
        failures=row["failures"],
        joules_per_token=joules_per(energy_uj, tokens - row["unmetered_tokens"]),
        joules_per_output_token=joules_per(energy_uj, metered_completion),
        kwh=kwh_nano(energy_uj) if row["energy_known"] else None,
        kwh_facility=None if facility is None else kwh_nano(facility, _NANO_UNITS),
        cost=None if cost is None else cost * _MICRO,
        currency=row["currency"],
        gco2=None if gco2 is None else gco2 * _MICRO,
        method=METHODS[row["method"]],
        simulated=bool(row["simulated"]),
        missing_prices=[MissingPrice(kind=kind, cluster=cluster) for kind, cluster in row["missing_prices"]],
        mixed_currencies=bool(row["mixed_currencies"]),
        unmetered_tokens=row["unmetered_tokens"],
        unmetered_requests=row["unmetered_requests"],
        host_uj=row["host_uj"],
        wall_uj=row["wall_uj"],
        **token_kinds.per_million(row, energy_uj),
        **dict(zip(by, row["keys"], strict=True)),
    )


def kwh_nano(energy_uj: int, parts_per_uj: int = 1) -> Decimal:
    """Return microjoules (or finer parts of them) as kWh, to nine places (3.6 mJ), rounded half up."""
    unit = UJ_PER_KWH * parts_per_uj // _NANO_UNITS
    return ((2 * energy_uj + unit) // (2 * unit)) * _NANO


def joules_per(energy_uj: int, count: int) -> float | None:
    """Return joules per token (a ratio for people, not for the ledger); None without tokens or measured energy."""
    return energy_uj / UJ_PER_J / count if count and energy_uj else None
