"""Single requests with their energy."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response

from api.auth import CallerReader, LedgerRouter, MoneyReader
from api.examples import ledger as examples
from api.params import NAME, Cluster, CoveredPeriod, Model, RequestedFormat, RequestedPage, Tenant, Workload
from api.response_models import RequestsResponse, documented
from api.serialization import plain, respond_page
from warehouse.billing.operation_cost import CostedReceipt, costed_receipt
from warehouse.filters import Filter
from warehouse.ledger import ledger_queries
from warehouse.ledger.known_names import with_known_names
from warehouse.ledger.receipts import receipt as read_receipt
from warehouse.results import RequestEnergyRow

router = LedgerRouter(prefix="/v1", tags=["drill-down"])

_NOT_STORED = "single requests are not stored (WATTLOG_REQUESTS=none); earlier ones expire after 30 days"


@router.get("/requests", responses=documented(RequestsResponse, examples.REQUESTS))
def requests(
    request: Request,
    reader: CallerReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    model: Model = None,
    session_id: Annotated[str | None, Query(**NAME, description="Only this session.")] = None,
    format_: RequestedFormat = None,
) -> Response:
    """Requests that ended in the period, with their energy. They are kept for 30 days. If workers do not store single
    requests, the response has a note."""
    filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, model=model, session_id=session_id)
    read = with_known_names(reader, filter_, partial(ledger_queries.requests, reader, period, filter_))
    note = _NOT_STORED if request.app.state.settings.requests == "none" else None
    return respond_page(request, format_, read, page_request, RequestEnergyRow, period, note=note)


@router.get("/receipts/{request_id:path}", responses=documented(CostedReceipt, examples.RECEIPT, 404))
def receipt(
    request: Request,
    reader: MoneyReader,
    request_id: Annotated[
        str, Path(min_length=1, max_length=1024, description="The request's id.", examples=["req-7f3a"])
    ],
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    model: Model = None,
) -> Response:
    """One request's joules, gCO2eq and cost in each final window that it ran in, its share of the tenant's charge
    there, and a hash of the tenant's rows of the ledger. Receipts, idle and unallocated energy sum to the ledger.
    `operation` is what the request cost in all, by the price book."""
    filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, model=model)
    one = read_receipt(reader, request_id, filter_)
    return JSONResponse(plain(costed_receipt(reader, one, request.app.state.settings.currency)))
