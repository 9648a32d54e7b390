"""Agents' sessions: their requests and everything else metered for them."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import JSONResponse, Response

from api.auth import CallerReader, LedgerRouter, MoneyReader
from api.examples import usage as examples
from api.params import NAME, RequestedFormat, RequestedPage, ResolvedPeriod, Tenant
from api.response_models import SessionsResponse, documented
from api.serialization import plain, respond_page
from warehouse.billing.operation_cost import CostedSession, costed_session
from warehouse.filters import Filter
from warehouse.ledger.known_names import with_known_names
from warehouse.results import SessionRow
from warehouse.usage.sessions import session as read_session
from warehouse.usage.sessions import sessions as read_sessions

router = LedgerRouter(prefix="/v1", tags=["usage"])

_NOT_STORED = "single requests are not stored (WATTLOG_REQUESTS=none): sessions lack their joules and tokens"


@router.get("/sessions", responses=documented(SessionsResponse, examples.SESSIONS))
def sessions(
    request: Request,
    reader: CallerReader,
    period: ResolvedPeriod,
    page_request: RequestedPage,
    tenant: Tenant = None,
    format_: RequestedFormat = None,
) -> Response:
    """Agents' sessions, by tenant and name, with the requests that ended in the period and the usage that counts in it.
    Single requests are kept for 30 days. If workers do not store them, the response has a note."""
    filter_ = Filter(tenant=tenant)
    read = with_known_names(reader, filter_, partial(read_sessions, reader, period, filter_))
    note = _NOT_STORED if request.app.state.settings.requests == "none" else None
    return respond_page(request, format_, read, page_request, SessionRow, period, note=note)


@router.get("/sessions/{session_id:path}", responses=documented(CostedSession, examples.SESSION, 404))
def session(
    request: Request,
    reader: MoneyReader,
    session_id: Annotated[str, Path(**NAME, examples=["s-1"])],
    tenant: Tenant = None,
) -> Response:
    """A session in total and by step: energy of its requests with its cost, tokens, failures, tool calls, external
    spend by currency, and all other meters. An operator names the tenant if several have a session of this name.
    `operation` is what the session cost in all, by the price book."""
    one = read_session(reader, session_id, tenant)
    return JSONResponse(plain(costed_session(reader, one, request.app.state.settings.currency)))
