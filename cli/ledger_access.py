"""Access of commands to the ledger: the open warehouse, and the period that the options name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from cli.audit_entries import exports_recorded
from cli.options import Format
from cli.output import errors_reported, note, print_csv
from cli.settings import load_settings
from contracts.units import counted

if TYPE_CHECKING:
    from contracts.settings import Settings
    from warehouse.client import Warehouse
    from warehouse.cursors import Page, PageRequest
    from warehouse.periods import Period
    from warehouse.reader import LedgerReader

Row = TypeVar("Row")
MAX_JSON_ROWS = 500_000
"""Rows that a command prints as one JSON document at most."""


def open_warehouse(settings: Settings) -> Warehouse:
    """Open the warehouse of the settings. The folder of an embedded one is created, private to its user."""
    from warehouse.client import connect

    password = settings.warehouse_password.get_secret_value() if settings.warehouse_password else None
    return connect(
        settings.dsn, password=password, question_s=settings.question_timeout_s, question_mb=settings.question_memory_mb
    )


@contextmanager
def open_ledger(data: Path | None) -> Iterator[LedgerReader]:
    """Open an existing ledger for reading. Errors in the block are reported, and end the command."""
    with open_ledger_and_settings(data) as (reader, _):
        yield reader


@contextmanager
def open_ledger_and_settings(
    data: Path | None, *, compute_owed: bool = True
) -> Iterator[tuple[LedgerReader, Settings]]:
    """Open an existing ledger for reading, with its settings. The reader is an operator's, who sees all tenants.

    An embedded one is mended first (`mend`), with `compute_owed` its hours too. CSV that is printed in the block is
    in the audit log.
    """
    from warehouse.reader import operator_reader

    with errors_reported():
        settings = load_settings(data)
        check_ledger_exists(settings)
        with open_warehouse(settings) as warehouse:
            check_migrated(warehouse)
            mend(warehouse, note, compute_owed=compute_owed)
            with exports_recorded(settings):
                yield operator_reader(warehouse), settings


def check_ledger_exists(settings: Settings) -> None:
    """Raise Unavailable that names the folder if there is no embedded warehouse in it: a reader never creates one."""
    from contracts.errors import Unavailable

    if not settings.warehouse_dsn and not (settings.data / "warehouse").is_dir():
        raise Unavailable(
            f"There is no ledger in {settings.data}",
            "Give the folder of one with --data, or make one: `wattlog demo`, `wattlog up` or `wattlog migrate`.",
        )


def check_migrated(warehouse: Warehouse) -> None:
    """Raise Unavailable, with the command that helps, if the ledger's tables are of an earlier version or not there."""
    from contracts.errors import Unavailable
    from warehouse.migrate import pending

    if missing := pending(warehouse):
        raise Unavailable(
            f"The ledger in {warehouse.where} is of an earlier version, or new: it lacks {', '.join(missing)}",
            "Stop its workers, and run `wattlog migrate`. Nothing that is stored changes.",
        )


def mend(warehouse: Warehouse, tell: Callable[[str], None], *, compute_owed: bool = True) -> None:
    """Complete what an ended run left in an embedded folder: a replay that was being moved, and hours that are due.

    `tell` gets a text if there were any.
    """
    from warehouse.ledger.staging import finish_stages
    from warehouse.migrate import pending
    from warehouse.sink.owed_hours import compute_owed_hours

    if not warehouse.embedded or pending(warehouse):
        return
    if finish_stages(warehouse):
        tell("completed a replay that had been cut off")
    if compute_owed and (count := compute_owed_hours(warehouse)):
        tell(f"computed {counted(count, 'hour')} that an earlier run had left due")


def patience_of(warehouse: Warehouse, seconds: float) -> dict[str, Any]:
    """Return how an audit looks twice: in an embedded warehouse at once, because no other process writes to it."""
    return {"patience_s": 1.0, "wait": lambda _: None} if warehouse.embedded else {"patience_s": seconds}


def resolve(
    reader: LedgerReader,
    name: str | None,
    start: str | None,
    end: str | None,
    time_zone: str | None,
    settings: Settings,
) -> Period:
    """Return the period that --period, --from and --to name, in the zone of --tz or the setting's. Raises BadQuery."""
    from warehouse.periods import resolve_period

    return resolve_period(
        reader, name, start=start, end=end,
        time_zone=time_zone or settings.time_zone, fiscal=settings.fiscal,
    )  # fmt: skip


@contextmanager
def covered(reader: LedgerReader, period: Period, *names: str | None) -> Iterator[dict[str, Any]]:
    """Yield the part of a period that the ledger covers, for JSON; where the options name the period, note it.

    A command ends with status 3 where a ledger with windows holds nothing of the period.
    """
    from api.serialization import plain
    from warehouse.periods import Period, coverage, newest

    held, last = coverage(reader, period), newest(reader).final_end
    yield {"coverage": None if held is None else plain(held)}
    if held is None and last is not None:
        (oldest,) = reader.ask("ledger/oldest")
        note(f"The ledger holds nothing of {period}: it has {Period(oldest['start'], last)}.")
        raise typer.Exit(3)
    if held is not None and held != period and any(names):
        note(f"Of this period the ledger covers {held}.")


def is_whole(format_: Format, limit: int | None) -> bool:
    """Return True for CSV without --limit: it has every row, as they are read."""
    return format_ is Format.CSV and limit is None


def print_whole_csv(
    read: Callable[[PageRequest], Page[Row]],
    flat: Callable[[list[Row]], list[dict[str, Any]]],
    columns: Iterable[str],
) -> None:
    """Print every page as CSV, in bounded memory."""
    from warehouse.cursors import MAX_LIMIT, PageRequest, all_pages

    pages = all_pages(read, read(PageRequest(MAX_LIMIT)))
    print_csv(chain.from_iterable(map(flat, pages)), list(columns))


def read_rows(read: Callable[[PageRequest], Page[Row]], format_: Format, limit: int | None) -> Page[Row]:
    """Return so many rows; without a limit, a table's first 1,000, and all of JSON.

    Raises BadQuery for more than `MAX_JSON_ROWS`.
    """
    from warehouse.cursors import MAX_LIMIT, PageRequest, all_pages

    if format_ is Format.TABLE or limit is not None:
        return read(PageRequest(limit or 1_000))
    return bounded_page(all_pages(read, read(PageRequest(MAX_LIMIT))))


def bounded_page(parts: Iterable[list[Row]]) -> Page[Row]:
    """Return rows in one page. Raises BadQuery for more than `MAX_JSON_ROWS`."""
    from contracts.errors import BadQuery
    from warehouse.cursors import Page

    rows: list[Row] = []
    for part in parts:
        rows += part
        if len(rows) > MAX_JSON_ROWS:
            raise BadQuery("format", "json", f"more than {MAX_JSON_ROWS} rows: ask for --format csv, or for less")
    return Page(rows)


def note_more_rows(page: Any) -> None:
    """Print a note if there are more rows than this page."""
    if page.next:
        note(f"There are more than these {len(page.rows)} rows: raise --limit, or narrow the period.")


def note_requests_not_stored(settings: Settings) -> None:
    """Print a note if workers do not store single requests."""
    if settings.requests == "none":
        note("Single requests are not stored (WATTLOG_REQUESTS=none): their joules and tokens are missing here.")
