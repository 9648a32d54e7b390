"""Under a bill: windows, GPUs' intervals, requests, the fleet, a charge explained."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from api import examples
from api.auth import OperatorOf, ReaderOf
from api.params import (
    NAME,
    Cluster,
    Cursor,
    FormatOf,
    Limit,
    Model,
    PeriodOf,
    Tenant,
    Workload,
)
from api.response_models import RequestsResponse, RowsResponse, documented
from api.serialization import Format, plain, plain_rows, respond
from contracts.errors import BadQuery
from contracts.units import EpochMs, epoch_ms
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.explanation import Explanation
from warehouse.ledger.explanation import explain as walk_back
from warehouse.periods import Period, newest
from warehouse.results import FleetRow, GpuInterval, LatestRow, LedgerRow, RequestEnergyRow

router = APIRouter(prefix="/v1", tags=["drill-down"])


@router.get("/fleet", responses=documented(RowsResponse[FleetRow], examples.FLEET))
def fleet(
    request: Request,
    reader: OperatorOf,
    period: PeriodOf,
    cluster: Cluster = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """What each node's GPUs used, by hardware: energy, mean power, utilisation, idle, unallocated. Operators only."""
    page = ledger_queries.fleet(reader, period, Filter(cluster=cluster), PageRequest(limit, cursor))
    return _paged(request, format_, page, FleetRow, period)


@router.get("/ledger", responses=documented(RowsResponse[LedgerRow], examples.LEDGER))
def ledger(
    request: Request,
    reader: ReaderOf,
    period: PeriodOf,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    model: Model = None,
    provisional: Annotated[bool, Query(description="Windows that are still open, too.")] = False,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """The windows behind a bill, oldest first."""
    page = ledger_queries.ledger_rows(
        reader,
        period,
        Filter(tenant=tenant, cluster=cluster, workload=workload, model=model),
        PageRequest(limit, cursor),
        provisional=provisional,
    )
    return _paged(request, format_, page, LedgerRow, period)


@router.get(
    "/ledger/{cluster}/{workload}/{window_start}/intervals",
    responses=documented(RowsResponse[GpuInterval], examples.INTERVALS),
)
def intervals(
    request: Request,
    reader: ReaderOf,
    cluster: Annotated[str, Path(**NAME, examples=["eu-1"])],
    workload: Annotated[str, Path(**NAME, examples=["chat"])],
    window_start: Annotated[str, Path(max_length=40, examples=["2026-10-31T22:00:00.000Z"])],
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """What each GPU measured in a window of a workload. A tenant sees it for windows in which it has a row itself."""
    at = _instant(window_start)
    page = ledger_queries.intervals(reader, at, cluster, workload, PageRequest(limit, cursor))
    end = EpochMs(at + page.rows[0].window_ms) if page.rows else at
    return _paged(request, format_, page, GpuInterval, Period(at, end))


_NOT_KEPT = "single requests are not stored (WATTLOG_REQUESTS=none); those of before expire after 30 days"


@router.get("/requests", responses=documented(RequestsResponse, examples.REQUESTS))
def requests(
    request: Request,
    reader: ReaderOf,
    period: PeriodOf,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    model: Model = None,
    session_id: Annotated[str | None, Query(**NAME, description="Only this session.")] = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """Requests that ended in the period, with their energy. Kept for 30 days after they were stored, unless workers are
    set to store none: then the answer has a note."""
    page = ledger_queries.requests(
        reader,
        period,
        Filter(tenant=tenant, cluster=cluster, workload=workload, model=model, session_id=session_id),
        PageRequest(limit, cursor),
    )
    note = _NOT_KEPT if request.app.state.settings.requests == "none" else None
    return _paged(request, format_, page, RequestEnergyRow, period, note=note)


@router.get("/latest", responses=documented(RowsResponse[LatestRow], examples.LATEST))
def latest(
    request: Request,
    reader: ReaderOf,
    tenant: Tenant = None,
    limit: Limit = 1000,
    format_: FormatOf = None,
) -> Response:
    """The newest five minutes of windows by tenant, newest first, provisional ones too."""
    end = newest(reader).window_end or EpochMs(0)
    rows = ledger_queries.latest(reader, end, Filter(tenant=tenant), PageRequest(limit))
    start = EpochMs(max(end - ledger_queries.LATEST_WINDOWS_MS, 0))
    return _paged(request, format_, Page(rows), LatestRow, Period(start, end))


@router.get("/explain", responses=documented(Explanation, examples.EXPLAIN, 404))
def explain(
    reader: ReaderOf,
    tenant: Tenant = None,
    window: Annotated[
        str, Query(max_length=40, description="`latest`, or RFC 3339: the window that holds it.")
    ] = "latest",
) -> Response:
    """A tenant's charge of one window walked back: share of work, GPUs' intervals, floor, weights, prices applied."""
    return JSONResponse(plain(walk_back(reader, tenant, window)))


def _instant(text: str) -> EpochMs:
    try:
        at = epoch_ms(text)
    except (ValueError, OverflowError):
        raise BadQuery("window_start", text, "give RFC 3339, as in the ledger's rows") from None
    if not 0 <= at < epoch_ms("2200-01-01"):
        raise BadQuery("window_start", text, "give a time from 1970 to 2200")
    return at


def _paged(
    request: Request, format_: Format | None, page: Page[Any], row: Any, period: Period, **more: str | None
) -> Response:
    return respond(
        request,
        format_,
        plain_rows(page.rows),
        [f.name for f in fields(row)],
        next_=page.next,
        period=plain(period),
        simulated=any(getattr(r, "simulated", False) for r in page.rows),
        **more,
    )
