"""Chargeback and efficiency: energy, tokens, cost and J/token, grouped by dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import Query, Request
from fastapi.responses import Response

from api.auth import CallerReader, LedgerRouter, MoneyReader, may_see_money
from api.chargeback_rows import chargeback_columns, chargeback_csv_rows, hidden_fields, write_chargeback_sheets
from api.examples import billing as examples
from api.exports import named, spooled_export, spooled_file
from api.params import (
    Cluster,
    CoveredPeriod,
    Dimensions,
    PerMillion,
    RequestedBoundary,
    RequestedFormat,
    RequestedPage,
    Tenant,
    split_names,
)
from api.response_models import ChargebackResponse, EfficiencyResponse, documented
from api.serialization import Format, link_headers, plain, plain_rows, respond, wants_csv
from contracts.boundary import Boundary
from contracts.spreadsheet import MEDIA_TYPE as XLSX_TYPE
from warehouse.chargeback import chargeback_queries, token_kinds
from warehouse.cursors import Page
from warehouse.filters import Filter
from warehouse.ledger.known_names import check_names
from warehouse.periods import Period
from warehouse.reader import LedgerReader
from warehouse.results import ChargebackRow

router = LedgerRouter(prefix="/v1", tags=["billing"])


@router.get("/chargeback", responses=documented(ChargebackResponse, examples.CHARGEBACK, csv=examples.CHARGEBACK_CSV))
def chargeback(
    request: Request,
    reader: MoneyReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    by: Dimensions = "tenant",
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: RequestedBoundary = None,
    per_million: PerMillion = False,
    format_: Annotated[
        Literal["json", "csv", "xlsx"] | None,
        Query(alias="format", description="`json`, `csv` or `xlsx`; without it the Accept header decides."),
    ] = None,
) -> Response:
    """Energy, tokens, J/token, kWh, cost and gCO2eq by any dimensions: tenant, team, cost centre, cluster, workload,
    model, hardware, hour, day, week or month. Cost is rounded once, to millionths, by largest remainder. All rows sum
    to `total` exactly."""
    names, filter_ = split_names(by), Filter(tenant=tenant, cluster=cluster, boundary=boundary)
    if format_ == "xlsx":
        return _respond_sheets(request, reader, period, names, filter_, per_million=per_million)
    if page_request.is_whole and wants_csv(request, format_):
        return _respond_whole(request, reader, period, names, filter_, per_million=per_million)
    page, total = chargeback_queries.chargeback_and_total(
        reader, period, names, filter_, page_request, per_million=per_million
    )
    if not page.rows and not page_request.cursor:
        check_names(reader, filter_)
    return _respond_grouped(
        request,
        format_,
        page,
        names,
        period,
        simulated=total.simulated,
        boundary=boundary,
        per_million=per_million,
        total=plain(total, exclude=hidden_fields([], per_million=per_million)),
        **plain(chargeback_queries.clusters_outside(reader, period, filter_)),
    )


@router.get("/efficiency", responses=documented(EfficiencyResponse, examples.EFFICIENCY, csv=examples.EFFICIENCY_CSV))
def efficiency(
    request: Request,
    reader: CallerReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    bucket: Annotated[Literal["hour", "day", "week", "month"], Query(description="Length of a time step.")] = "hour",
    by: Dimensions = "model",
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: RequestedBoundary = None,
    per_million: PerMillion = False,
    format_: RequestedFormat = None,
) -> Response:
    """J/token over time: per prompt and completion token, and per completion token alone. A caller who may not see
    money gets null for `cost`, and `withheld` says so."""
    groups = [name for name in split_names(by) if name != bucket]
    filter_ = Filter(tenant=tenant, cluster=cluster, boundary=boundary)
    withheld = [] if may_see_money(request) else ["cost", *(token_kinds.MONEY_FIELDS if per_million else ())]
    if page_request.is_whole and wants_csv(request, format_):
        return _respond_whole(request, reader, period, [bucket, *groups], filter_, withheld, per_million=per_million)
    page = chargeback_queries.efficiency(reader, period, bucket, groups, filter_, page_request, per_million=per_million)
    if not page.rows and not page_request.cursor:
        check_names(reader, filter_)
    page = Page(_without(withheld, page.rows), page.next)
    return _respond_grouped(
        request,
        format_,
        page,
        [bucket, *groups],
        period,
        simulated=any(row.simulated for row in page.rows),
        boundary=boundary,
        per_million=per_million,
        withheld=withheld,
        **plain(chargeback_queries.clusters_outside(reader, period, filter_)),
    )


def _respond_sheets(
    request: Request, reader: LedgerReader, period: Period, names: list[str], filter_: Filter, *, per_million: bool
) -> Response:
    """Respond with every row as XLSX."""
    counts = [0]
    with chargeback_queries.chargeback_blocks(reader, period, names, filter_, per_million=per_million) as (
        total,
        blocks,
    ):
        if not (total.energy_uj or total.requests or total.tokens):
            check_names(reader, filter_)

        def write(file: BinaryIO) -> None:
            counts[0] = write_chargeback_sheets(file, blocks, names, period, filter_.boundary, per_million=per_million)

        headers = link_headers(request, None) | named("chargeback.xlsx")
        return spooled_file(request, write, XLSX_TYPE, headers, counts)


def _without(withheld: Sequence[str], rows: list[ChargebackRow]) -> list[ChargebackRow]:
    """Return rows without what a caller may not see."""
    nothing: dict[str, Any] = dict.fromkeys(withheld)
    return [replace(row, **nothing) for row in rows] if nothing else rows


def _respond_whole(
    request: Request,
    reader: LedgerReader,
    period: Period,
    names: list[str],
    filter_: Filter,
    withheld: Sequence[str] = (),
    *,
    per_million: bool,
) -> Response:
    """Respond with every row as CSV."""
    hidden = hidden_fields(names, per_million=per_million)
    columns = chargeback_columns(names, per_million=per_million)

    def flat(rows: list[ChargebackRow]) -> list[dict[str, Any]]:
        return chargeback_csv_rows(plain_rows(_without(withheld, rows), exclude=hidden), filter_.boundary)

    with chargeback_queries.chargeback_blocks(reader, period, names, filter_, per_million=per_million) as (
        total,
        blocks,
    ):
        if not (total.energy_uj or total.requests or total.tokens):
            check_names(reader, filter_)
        return spooled_export(request, map(flat, blocks), columns, link_headers(request, None))


def _respond_grouped(
    request: Request,
    format_: Format | None,
    page: Page[ChargebackRow],
    names: list[str],
    period: Period,
    *,
    simulated: bool,
    boundary: Boundary | None,
    per_million: bool,
    **envelope: Any,
) -> Response:
    """Respond with the rows' measures and the dimensions that they are grouped by."""
    rows = plain_rows(page.rows, exclude=hidden_fields(names, per_million=per_million))
    return respond(
        request,
        format_,
        rows,
        chargeback_columns(names, per_million=per_million),
        csv_pages=iter([chargeback_csv_rows(rows, boundary)]),
        next_=page.next,
        period=plain(period),
        simulated=simulated,
        boundary=boundary,
        **envelope,
    )
