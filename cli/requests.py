"""`wattlog requests`: single requests with their energy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.ledger_access import (
    is_whole,
    note_more_rows,
    note_requests_not_stored,
    open_ledger_and_settings,
    print_whole_csv,
    read_rows,
    resolve,
)
from cli.options import (
    Cluster,
    Data,
    Format,
    FormatOption,
    From,
    Json,
    Limit,
    PeriodName,
    Tenant,
    TimeZone,
    To,
    output_format,
)
from cli.tables import Column, integer, print_rows, text_column

if TYPE_CHECKING:
    from warehouse.reader import LedgerReader
    from warehouse.results import RequestEnergyRow

_COLUMNS = (
    text_column("t_end", "ended"),
    text_column("tenant", "tenant"),
    text_column("workload", "workload"),
    text_column("model", "model"),
    text_column("request_id", "request"),
    text_column("status", "status"),
    Column("prompt_tokens", "prompt", integer),
    Column("completion_tokens", "completion", integer),
    Column("energy_uj", "energy J", lambda uj: f"{uj / 1e6:,.3f}"),
    Column("joules_per_token", "J/token", lambda joules: f"{joules:.3f}"),
)
_COST = (Column("cost", "cost", str), text_column("currency", ""))


def requests(
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    session_id: Annotated[str | None, typer.Option("--session", help="Only this session.")] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Add what each request cost in all, by the price book.")] = False,
    limit: Limit = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """List requests that ended in a period, oldest first, with their energy. They are kept for 30 days.

    `wattlog receipt ID` shows one of them in full.

    Example: wattlog requests --period latest-hour --tenant acme
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter
        from warehouse.ledger import ledger_queries
        from warehouse.results import RequestEnergyRow

        resolved = resolve(reader, period, start, end, tz, settings)
        chosen = output_format(format_, as_json)
        filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, model=model, session_id=session_id)
        read = partial(ledger_queries.requests, reader, resolved, filter_)
        flat = partial(_with_costs, reader, settings.currency) if cost else plain_rows
        fields = [*RequestEnergyRow.__dataclass_fields__, *(["cost", "currency"] if cost else [])]
        note_requests_not_stored(settings)
        if is_whole(chosen, limit):
            print_whole_csv(read, flat, fields)
            return
        page = read_rows(read, chosen, limit)
        simulated = any(row.simulated for row in page.rows)
        rows = flat(page.rows)
        print_rows(
            chosen,
            [_table_row(row) for row in rows] if chosen is Format.TABLE else rows,
            title=f"Requests, {resolved}",
            columns=(*_COLUMNS, *_COST) if cost else _COLUMNS,
            csv_columns=fields,
            simulated=simulated,
            envelope={"period": plain(resolved), "simulated": simulated},
            next_=page.next,
        )
        note_more_rows(page)


def _with_costs(reader: LedgerReader, currency: str, rows: list[RequestEnergyRow]) -> list[dict[str, Any]]:
    from api.serialization import plain, plain_rows
    from warehouse.billing.request_costs import request_costs

    costs = request_costs(reader, rows, currency)
    return [row | plain(cost) for row, cost in zip(plain_rows(rows), costs, strict=True)]


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table: where no window was measured, energy is unknown and not 0."""
    return row if row["unmetered_windows"] < row["windows"] else {**row, "energy_uj": None}
