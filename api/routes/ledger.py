"""The ledger's windows, the measurements in them, and the newest ones."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.responses import Response

from api.auth import CallerReader, LedgerRouter
from api.examples import ledger as examples
from api.params import (
    NAME,
    Cluster,
    CoveredPeriod,
    Model,
    RequestedBoundary,
    RequestedFormat,
    RequestedPage,
    Tenant,
    Workload,
)
from api.response_models import RowsResponse, documented
from api.serialization import respond_page
from contracts.errors import BadQuery
from contracts.units import EpochMs, epoch_ms
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.known_names import with_known_names
from warehouse.periods import Period, newest
from warehouse.results import GpuInterval, GpuOfWindow, LatestRow, LedgerRow

router = LedgerRouter(prefix="/v1", tags=["drill-down"])


@router.get("/ledger", responses=documented(RowsResponse[LedgerRow], examples.LEDGER))
def ledger(
    request: Request,
    reader: CallerReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    model: Model = None,
    boundary: RequestedBoundary = None,
    provisional: Annotated[bool, Query(description="Include windows that are still open.")] = False,
    format_: RequestedFormat = None,
) -> Response:
    """The windows behind a bill, oldest first."""
    filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, model=model, boundary=boundary)
    read = partial(ledger_queries.ledger_rows, reader, period, filter_, provisional=provisional)
    return respond_page(request, format_, with_known_names(reader, filter_, read), page_request, LedgerRow, period)


@router.get(
    "/ledger/{cluster}/{workload}/{window_start}/intervals",
    responses=documented(RowsResponse[GpuInterval] | RowsResponse[GpuOfWindow], examples.INTERVALS),
)
def intervals(
    request: Request,
    reader: CallerReader,
    cluster: Annotated[str, Path(**NAME, examples=["eu-1"])],
    workload: Annotated[str, Path(**NAME, examples=["chat"])],
    window_start: Annotated[str, Path(max_length=40, examples=["2026-10-31T22:00:00.000Z"])],
    page_request: RequestedPage,
    format_: RequestedFormat = None,
) -> Response:
    """Measurements of each GPU in a window of a workload. A tenant sees which GPUs measured windows in which it has a
    row, without energy and times, which it shares with others."""
    start = _instant(window_start)
    read = partial(ledger_queries.intervals, reader, start, cluster, workload)
    page: Page[Any] = read(page_request)
    end = EpochMs(start + page.rows[0].window_ms) if page.rows else start
    of_row = GpuInterval if reader.tenants is None else GpuOfWindow
    return respond_page(
        request,
        format_,
        lambda at: page if at is page_request else read(at),
        page_request,
        of_row,
        Period(start, end),
    )


@router.get("/latest", responses=documented(RowsResponse[LatestRow], examples.LATEST))
def latest(
    request: Request,
    reader: CallerReader,
    page_request: RequestedPage,
    tenant: Tenant = None,
    format_: RequestedFormat = None,
) -> Response:
    """The windows of the newest five minutes by tenant, newest first, provisional ones included."""
    end_ms, filter_ = newest(reader).window_end or 0, Filter(tenant=tenant)
    period, first = ledger_queries.latest(reader, end_ms, filter_, page_request)

    def read(part: PageRequest) -> Page[LatestRow]:
        return first if part is page_request else ledger_queries.latest(reader, end_ms, filter_, part)[1]

    return respond_page(request, format_, read, page_request, LatestRow, period)


def _instant(text: str) -> EpochMs:
    try:
        instant = epoch_ms(text)
    except (ValueError, OverflowError):
        raise BadQuery("window_start", text, "give RFC 3339, as in the ledger's rows") from None
    if not 0 <= instant < epoch_ms("2200-01-01"):
        raise BadQuery("window_start", text, "give a time from 1970 to 2200")
    return instant
