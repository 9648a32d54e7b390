"""`wattlog latency`: how long requests took, by tenant, model or any other dimension of a bill."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Annotated

import typer

from cli.ledger_access import (
    covered,
    is_whole,
    note_more_rows,
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
    split_names,
)
from cli.tables import Column, decimals, integer, print_rows, text_column


def latency(
    by: Annotated[
        str, typer.Option(help="Comma-separated dimensions of a bill: tenant, model, application, endpoint, hour ...")
    ] = "tenant,model",
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    limit: Limit = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show the time to the first token, per output token and of the whole request: P50, P95 and P99.

    A time is true to one part in eight. JSON and CSV have the time in the queue as well.

    Example: wattlog latency --by tenant,model,hour --period latest-day
    """
    with open_ledger_and_settings(data) as (reader, settings), ExitStack() as stack:
        from api.latency_rows import flat_latency_row, latency_columns
        from api.serialization import plain, plain_rows
        from warehouse.filters import Filter
        from warehouse.latency import latency_queries
        from warehouse.ledger.known_names import with_known_names

        names = split_names(by)
        resolved = resolve(reader, period, start, end, tz, settings)
        filter_ = Filter(tenant=tenant, cluster=cluster)
        chosen = output_format(format_, as_json)
        held = stack.enter_context(covered(reader, resolved, period, start, end))
        read = with_known_names(reader, filter_, partial(latency_queries.latencies, reader, resolved, names, filter_))
        if is_whole(chosen, limit):
            print_whole_csv(
                read, lambda part: [flat_latency_row(row) for row in plain_rows(part)], latency_columns(names)
            )
            return
        page = read_rows(read, chosen, limit)
        rows = plain_rows(page.rows)
        simulated = any(row.simulated for row in page.rows)
        print_rows(
            chosen,
            rows,
            title=f"Latency in ms, {resolved}",
            columns=[
                *(text_column(name, name) for name in names),
                Column("request_duration_requests", "requests", integer),
                *(
                    Column(f"{name}_p{rank}_ms", f"{short} P{rank}", decimals(1))
                    for name, short in (
                        ("time_to_first_token", "first token"),
                        ("time_per_output_token", "per token"),
                        ("request_duration", "request"),
                    )
                    for rank in (50, 95, 99)
                ),
            ],
            csv_columns=latency_columns(names),
            simulated=simulated,
            envelope={"period": plain(resolved), **held, "simulated": simulated},
            next_=page.next,
            flat_rows=[flat_latency_row(row) for row in rows],
        )
        note_more_rows(page)
