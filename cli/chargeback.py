"""`wattlog chargeback`: energy, tokens and cost by tenant or any other dimension."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.audit_entries import record_export
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
from cli.output import step_finished
from contracts.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.grouped_rows import Blocks
    from contracts.boundary import Boundary
    from warehouse.periods import Period
    from warehouse.results import ChargebackRow


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
    per_million: PerMillion = False,
    limit: Limit = None,
    xlsx: Annotated[
        Path | None, typer.Option(help="Write every row to this new file as a spreadsheet.", show_default=False)
    ] = None,
    format_: FormatOption = Format.TABLE,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Show who used how much energy, for how many tokens, at what cost.

    Example: wattlog chargeback --by tenant,model --period 2026-10 --format csv
    """
    with open_ledger_and_settings(data) as (reader, settings), ExitStack() as stack:
        from cli.export_files import check_file
        from warehouse.chargeback import chargeback_queries
        from warehouse.cursors import Page, PageRequest
        from warehouse.filters import Filter
        from warehouse.ledger.known_names import check_names

        if xlsx is not None:
            check_file(xlsx, force=False, option="--xlsx")
        names, filter_ = split_names(by), Filter(tenant=tenant, cluster=cluster, boundary=boundary)
        resolved = resolve(reader, period, start, end, tz, settings)
        chosen = output_format(format_, as_json)
        held = stack.enter_context(covered(reader, resolved, period, start, end))
        blocks: Blocks | None = None
        if xlsx is not None:
            whole_bill = chargeback_queries.chargeback_blocks(reader, resolved, names, filter_, per_million=per_million)
            total, rows = stack.enter_context(whole_bill)
            if not (total.energy_uj or total.requests or total.tokens):
                check_names(reader, filter_)
            _write_sheets(xlsx, rows, names, resolved, boundary, per_million=per_million)
            return
        if limit is not None or chosen is Format.TABLE or not names:
            page, total = chargeback_queries.chargeback_and_total(
                reader, resolved, names, filter_, PageRequest(limit or 1_000), per_million=per_million
            )
        else:
            blocks = stack.enter_context(
                chargeback_queries.chargeback_blocks(reader, resolved, names, filter_, per_million=per_million)
            )
            page, total = Page([]), blocks[0]
        if not (total.energy_uj or total.requests or total.tokens):
            check_names(reader, filter_)
        print_grouped_rows(
            chosen,
            page,
            blocks=blocks,
            title="Chargeback",
            names=names,
            period=resolved,
            held=held,
            boundary=boundary,
            per_million=per_million,
            outside=chargeback_queries.clusters_outside(reader, resolved, filter_),
            total=total,
        )
        note_nodes_without_host(reader, resolved, cluster, [total])


def _write_sheets(
    out: Path, blocks: Iterator[list[ChargebackRow]], names: list[str], period: Period, boundary: Boundary | None, *,
    per_million: bool,
) -> None:  # fmt: skip
    from api.chargeback_rows import write_chargeback_sheets
    from cli.export_files import write_file

    record_export(None)
    counts: list[int] = []
    write_file(
        out,
        lambda file: counts.append(
            write_chargeback_sheets(file, blocks, names, period, boundary, per_million=per_million)
        ),
    )
    step_finished(f"{counted(counts[0], 'row')} in {out}")
