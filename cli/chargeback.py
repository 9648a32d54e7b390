"""`wattlog chargeback`: energy, tokens and cost by tenant or any other dimension."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.boundary import note_nodes_without_host
from cli.grouped_rows import print_grouped_rows
from cli.ledger_access import open_ledger_and_settings, resolve
from cli.options import (
    BoundaryName,
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


def chargeback(
    by: Annotated[
        str,
        typer.Option(
            help="Comma-separated: tenant, team, cost_centre, cluster, workload, model, hardware, hour, day, month."
        ),
    ] = "tenant",
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: BoundaryName = None,
    limit: Limit = 1000,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show who used how much energy, for how many tokens, at what cost.

    Example: wattlog chargeback --by tenant,model --period 2026-10 --format csv
    """
    with open_ledger_and_settings(data) as (reader, settings):
        from warehouse.chargeback import chargeback_queries
        from warehouse.cursors import PageRequest
        from warehouse.filters import Filter

        names, filter_ = split_names(by), Filter(tenant=tenant, cluster=cluster, boundary=boundary)
        resolved = resolve(reader, period, start, end, tz or settings.time_zone)
        page, total = chargeback_queries.chargeback_and_total(reader, resolved, names, filter_, PageRequest(limit))
        print_grouped_rows(
            output_format(format_, as_json),
            page,
            title="Chargeback",
            names=names,
            period=resolved,
            boundary=boundary,
            outside=chargeback_queries.clusters_outside(reader, resolved, filter_),
            total=total,
        )
        note_nodes_without_host(reader, resolved, cluster, page.rows)
