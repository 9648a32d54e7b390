"""`wattlog usage`: metered quantities beside energy and tokens."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from cli.ledger_access import is_whole, note_more_rows, open_ledger_and_settings, print_whole_csv, read_rows, resolve
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
    split_names,
)
from cli.tables import Column, print_rows, text_column


def usage(
    by: Annotated[
        str, typer.Option(help="Comma-separated: tenant, cluster, workload, meter, or dimensions.KEY.")
    ] = "tenant",
    bucket: Annotated[str | None, typer.Option(help="hour, day, week or month: over time.")] = None,
    meter: Annotated[str | None, typer.Option(help="Only this meter.")] = None,
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Annotated[str | None, typer.Option(help="Only this workload.")] = None,
    limit: Limit = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show what was metered beside energy and tokens: GPU minutes, tool calls, external spend ... by meter and unit.

    Example: wattlog usage --by tenant,dimensions.pod --meter gpu_minutes --bucket day
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from api.serialization import plain, plain_rows
        from api.usage_rows import flat_usage_row, hidden_usage_fields, usage_columns
        from warehouse.filters import Filter
        from warehouse.ledger.known_names import with_known_names
        from warehouse.usage import usage_queries

        names = split_names(by)
        resolved = resolve(reader, period, start, end, tz, settings)
        filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, meter=meter)
        columns = usage_columns(names, bucket)
        plain_of = partial(plain_rows, exclude=hidden_usage_fields(columns))
        chosen = output_format(format_, as_json)
        read = with_known_names(reader, filter_, partial(usage_queries.usage, reader, resolved, names, bucket, filter_))
        if is_whole(chosen, limit):
            print_whole_csv(read, lambda part: [flat_usage_row(row) for row in plain_of(part)], columns)
            return
        page = read_rows(read, chosen, limit)
        rows = plain_of(page.rows)
        simulated = any(row.simulated for row in page.rows)
        print_rows(
            chosen,
            rows,
            title=f"Usage, {resolved}",
            columns=[
                *(text_column(name, name) for name in columns[:-3]),
                Column("quantity", "quantity"),
                Column("rows", "rows"),
            ],
            csv_columns=columns,
            simulated=simulated,
            envelope={"period": plain(resolved), "simulated": simulated},
            next_=page.next,
            flat_rows=[flat_usage_row(row) for row in rows],
        )
        note_more_rows(page)
