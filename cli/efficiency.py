"""`wattlog efficiency`: joules per token over time."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from cli.boundary import note_nodes_without_host
from cli.grouped_rows import print_grouped_rows
from cli.ledger_access import covered, open_ledger_and_settings, resolve
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
    PerMillion,
    Tenant,
    TimeZone,
    To,
    output_format,
    split_names,
)

if TYPE_CHECKING:
    from cli.grouped_rows import Blocks


def efficiency(
    by: Annotated[
        str, typer.Option(help="Comma-separated: model, workload, hardware, tenant, team, cluster.")
    ] = "model",
    bucket: Annotated[str, typer.Option(help="hour, day, week or month.")] = "day",
    period: PeriodName = None,
    start: From = None,
    end: To = None,
    tz: TimeZone = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: BoundaryName = None,
    per_million: PerMillion = False,
    limit: Limit = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show joules per token over time.

    Example: wattlog efficiency --by model,hardware --bucket day
    """
    with open_ledger_and_settings(data) as (reader, settings), ExitStack() as stack:
        from warehouse.chargeback import chargeback_queries
        from warehouse.cursors import Page, PageRequest
        from warehouse.filters import Filter
        from warehouse.ledger.known_names import check_names

        groups = [name for name in split_names(by) if name != bucket]
        resolved = resolve(reader, period, start, end, tz, settings)
        filter_ = Filter(tenant=tenant, cluster=cluster, boundary=boundary)
        chosen = output_format(format_, as_json)
        held = stack.enter_context(covered(reader, resolved, period, start, end))
        blocks: Blocks | None = None
        chargeback_queries.check_bucket(bucket)
        if limit is not None or chosen is Format.TABLE:
            page = chargeback_queries.efficiency(
                reader, resolved, bucket, groups, filter_, PageRequest(limit or 1_000), per_million=per_million
            )
        else:
            blocks = stack.enter_context(
                chargeback_queries.chargeback_blocks(
                    reader, resolved, [bucket, *groups], filter_, per_million=per_million
                )
            )
            page = Page([])
        sums = blocks[0] if blocks else None
        if not (page.rows or (sums and (sums.energy_uj or sums.requests or sums.tokens))):
            check_names(reader, filter_)
        print_grouped_rows(
            chosen,
            page,
            blocks=blocks,
            title="Efficiency",
            names=[bucket, *groups],
            period=resolved,
            held=held,
            boundary=boundary,
            per_million=per_million,
            outside=chargeback_queries.clusters_outside(reader, resolved, filter_),
        )
        note_nodes_without_host(reader, resolved, cluster, [blocks[0]] if blocks else page.rows)
