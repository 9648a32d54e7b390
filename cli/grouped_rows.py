"""Prints rows grouped by dimensions: the common part of `wattlog chargeback` and `wattlog efficiency`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from cli.boundary import PART_NAMES, note_clusters_outside
from cli.ledger_access import bounded_page, note_more_rows
from cli.options import Format
from cli.output import note, print_csv, stdout
from cli.tables import Column, decimals, decimals_or_figures, figures, integer, kilograms, print_rows, text_column
from contracts.boundary import Boundary
from contracts.units import counted

if TYPE_CHECKING:
    from warehouse.cursors import Page
    from warehouse.periods import Period
    from warehouse.results import ChargebackRow, Outside

    Blocks = tuple[ChargebackRow, Iterator[list[ChargebackRow]]]

_MEASURES = (
    Column("tokens", "tokens", integer),
    Column("requests", "requests", integer),
    Column("kwh", "energy kWh", decimals_or_figures(3)),
    Column("joules_per_token", "J/token", figures),
    Column("gco2", "CO2eq kg", kilograms),
    Column("cost", "cost", decimals(6)),
    text_column("currency", ""),
)
_PER_MILLION = (
    Column("tokens", "tokens", integer),
    *(
        Column(f"{field}_per_million_{kind}", f"{name} {kind}", format_)
        for field, name, format_ in (
            ("joules", "J/1M", figures),
            ("gco2", "g/1M", figures),
            ("cost", "cost/1M", decimals(6)),
        )
        for kind in ("input", "cached", "output")
    ),
    text_column("currency", ""),
)
"""Columns in place of the measures where figures per 1,000,000 tokens are asked for."""
_UNMETERED = (
    Column("unmetered_tokens", "unmetered tokens", integer),
    Column("unmetered_requests", "unmetered requests", integer),
)
"""Columns of a table that has any."""


def print_grouped_rows(
    format_: Format,
    page: Page[ChargebackRow],
    *,
    title: str,
    names: list[str],
    period: Period,
    held: Mapping[str, Any],
    boundary: Boundary | None,
    outside: Outside,
    per_million: bool = False,
    total: ChargebackRow | None = None,
    blocks: Blocks | None = None,
) -> None:
    """Print a page grouped by `names`, with the total if there is one, what its energy includes, and notes.

    With `blocks`, every row in place of the page: CSV as they are read, JSON of at most MAX_JSON_ROWS.
    """
    from api.chargeback_rows import chargeback_columns, chargeback_csv_rows, hidden_fields
    from api.serialization import plain, plain_rows

    hidden = hidden_fields(names, per_million=per_million)
    csv_columns = chargeback_columns(names, per_million=per_million)
    if blocks is not None and format_ is Format.CSV:
        parts = (chargeback_csv_rows(plain_rows(rows, exclude=hidden), boundary) for rows in blocks[1])
        print_csv(chain.from_iterable(parts), csv_columns)
        _print_notes([blocks[0]], [blocks[0]], boundary, outside, mixed=blocks[0].mixed_currencies)
        return
    if blocks is not None:
        page = bounded_page(blocks[1])
    simulated = any(row.simulated for row in page.rows)
    all_rows = [*page.rows, *([total] if total else [])]
    unmetered = [column for column in _UNMETERED if any(getattr(row, column.field) for row in all_rows)]
    total_row = None if total is None else plain(total, exclude=hidden_fields([], per_million=per_million))
    envelope: dict[str, Any] = {"period": plain(period), **held, "simulated": simulated}
    if boundary is not None:
        envelope |= {"boundary": boundary, **plain(outside)}
    if total_row is not None:
        envelope["total"] = total_row
    rows = plain_rows(page.rows, exclude=hidden)
    print_rows(
        format_,
        rows,
        title=f"{title}, {period}",
        columns=[
            *(text_column(name, name) for name in names),
            *(_PER_MILLION if per_million else _MEASURES),
            *unmetered,
        ],
        csv_columns=csv_columns,
        simulated=simulated,
        envelope=envelope,
        next_=page.next,
        total=total_row,
        flat_rows=chargeback_csv_rows(rows, boundary),
    )
    if format_ is Format.TABLE:
        _print_parts([total] if total else page.rows, boundary, complete=total is not None or not page.next)
    sums = [total] if total else page.rows
    _print_notes(all_rows, sums, boundary, outside, mixed=total is not None and total.mixed_currencies)
    note_more_rows(page)


def _print_notes(
    rows: list[ChargebackRow], sums: list[ChargebackRow], boundary: Boundary | None, outside: Outside, *, mixed: bool
) -> None:
    note_clusters_outside(boundary, outside)
    _note_missing_prices(rows)
    _note_unmetered(sums)
    _note_kinds(sums)
    if mixed:
        note("Clusters are priced in several currencies, which do not add up: try --by cluster.")


def _print_parts(rows: list[ChargebackRow], boundary: Boundary | None, *, complete: bool) -> None:
    """Print what the energy of a table includes. Only `complete` rows show that no host or wall was measured."""
    from warehouse.chargeback.chargeback_queries import kwh_nano, parts_uj

    sums: Counter[str] = Counter()
    for row in rows:
        sums.update(parts_uj(row))
    beside = [f"{name} {_kwh(kwh_nano(sums[part]))} kWh" for part, name in PART_NAMES.items() if sums[part]]
    within = f" within the boundary {boundary}" if boundary else ""
    gpus_alone = complete and boundary is None and beside and not sums[Boundary.HOST] and not sums[Boundary.WALL]
    alone = "; no host or wall was measured" if gpus_alone else ""
    stdout().print(f"Energy{within}: {', '.join(beside) or 'none'}{alone}")


_kwh = decimals_or_figures(3)


def _note_unmetered(rows: list[ChargebackRow]) -> None:
    tokens, requests = (sum(getattr(row, column.field) for row in rows) for column in _UNMETERED)
    if requests or tokens:
        of_all = f"{tokens:,} of {sum(row.tokens for row in rows):,} tokens ({counted(requests, 'request')})"
        note(
            f"{of_all} have no measured energy: cost is open and in no sum, and J/token is of the "
            "others. `wattlog doctor` names the workloads."
        )


def _note_kinds(rows: list[ChargebackRow]) -> None:
    """Say which energy is in no figure per 1,000,000 tokens; rows have it where those were asked for."""
    without_uj = sum(row.energy_without_kind_uj or 0 for row in rows)
    if without_uj:
        of_all = f"{without_uj / 3.6e12:,.3f} of {sum(row.energy_uj for row in rows) / 3.6e12:,.3f} kWh"
        note(f"{of_all} belong to no kind of token (idle time, images, hosts) and are in no figure per million.")
    for reason in sorted({row.kinds_unknown for row in rows if row.kinds_unknown}):
        note(f"Figures per million are open: {reason}.")


def _note_missing_prices(rows: list[ChargebackRow]) -> None:
    missing = {f"{price.kind} of {price.cluster}" for row in rows for price in row.missing_prices}
    if missing:
        note(f"No price: {', '.join(sorted(missing))}. Costs without a price are left empty, never taken as 0.")
