"""What commands that ask the ledger share: their options, and the open warehouse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.options import errors_told, load_settings

if TYPE_CHECKING:
    from contracts.settings import Settings
    from warehouse.periods import Period
    from warehouse.reader import LedgerReader

PeriodName = Annotated[
    str | None,
    typer.Option(
        "--period", help="latest-month (default), latest-day, latest-hour, all, YYYY-MM or YYYY-MM-DD, in UTC."
    ),
]
From = Annotated[str | None, typer.Option("--from", help="Start instead of a period: RFC 3339, inclusive.")]
To = Annotated[str | None, typer.Option("--to", help="End, exclusive; without it, the newest final window's.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Cluster = Annotated[str | None, typer.Option(help="Only this cluster.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")]


@contextmanager
def ledger(data: Any) -> Iterator[LedgerReader]:
    """The warehouse of the settings, open, as an operator sees it: it holds all tenants' rows. Errors are one line."""
    with ledger_as_set(data) as (reader, _):
        yield reader


@contextmanager
def ledger_as_set(data: Any) -> Iterator[tuple[LedgerReader, Settings]]:
    """The same, and the settings."""
    from cli.opening import open_warehouse
    from contracts.errors import Unavailable
    from warehouse.reader import operator_reader

    with errors_told():
        settings = load_settings(data)
        if not settings.warehouse_dsn and not (settings.data / "warehouse").is_dir():
            raise Unavailable(f"There is no ledger in {settings.data}", "Run `wattlog demo`, or say where with --data.")
        with open_warehouse(settings) as warehouse:
            yield operator_reader(warehouse), settings


def period_of(reader: LedgerReader, name: str | None, start: str | None, end: str | None) -> Period:
    """The period that the options mean."""
    from warehouse.periods import resolve_period

    return resolve_period(reader, name, start=start, end=end)


def told_more(page: Any) -> None:
    """Say where a page is not all there is."""
    if page.next:
        output.note(f"There is more than these {len(page.rows)} rows: raise --limit, or narrow the period.")
