"""What was metered beside energy and tokens, and agents' sessions, which are made of all of it."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator

from api import examples
from api.auth import ReaderOf
from api.params import NAME, Cluster, Cursor, FormatOf, Limit, PeriodOf, Tenant, Workload, split
from api.response_models import RowsResponse, SessionsResponse, documented
from api.serialization import plain, plain_rows, respond
from api.usage_rows import flat_usage_row, hidden_usage_fields, usage_columns
from warehouse.cursors import PageRequest
from warehouse.filters import Filter
from warehouse.results import SessionRow, UsageGroup
from warehouse.usage import usage_queries
from warehouse.usage.sessions import Session
from warehouse.usage.sessions import session as one_session
from warehouse.usage.sessions import sessions as all_sessions

router = APIRouter(prefix="/v1", tags=["usage"])

_GROUP = f"({'|'.join(usage_queries.DIMENSIONS)}|dimensions\\.[^,]+)"


def _groups(by: str) -> str:
    usage_queries.check_by(split(by))
    return by


By = Annotated[
    str,
    AfterValidator(_groups),
    Query(
        max_length=1_000,
        examples=["tenant,dimensions.pod"],
        description=f"Group by these, comma-separated: {', '.join(usage_queries.DIMENSIONS)}, or `dimensions.KEY` for "
        "whatever rows are broken down by. Meter and unit always are.",
        json_schema_extra={"pattern": f"^({_GROUP}(,{_GROUP})*)?$"},
    ),
]


@router.get("/usage", responses=documented(RowsResponse[UsageGroup], examples.USAGE, csv=examples.USAGE_CSV))
def usage(
    request: Request,
    reader: ReaderOf,
    period: PeriodOf,
    by: By = "tenant",
    bucket: Annotated[
        Literal["hour", "day", "month"] | None, Query(description="Over time, in steps of this; else in all.")
    ] = None,
    meter: Annotated[str | None, Query(**NAME, description="Only this meter.", examples=["gpu_minutes"])] = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """Metered quantities (GPU minutes, tool calls, external spend ...) by meter and unit, summed exactly. A row counts
    whole where its last millisecond lies."""
    names = split(by)
    page = usage_queries.usage(
        reader,
        period,
        by=names,
        bucket=bucket,
        filter=Filter(tenant=tenant, cluster=cluster, workload=workload, meter=meter),
        page=PageRequest(limit, cursor),
    )
    columns = usage_columns(names, bucket)
    rows = plain_rows(page.rows, exclude=hidden_usage_fields(columns))
    return respond(
        request,
        format_,
        rows,
        columns,
        csv_rows=[flat_usage_row(row) for row in rows],
        next_=page.next,
        period=plain(period),
        simulated=any(row.simulated for row in page.rows),
    )


_NOT_KEPT = "single requests are not stored (WATTLOG_REQUESTS=none): sessions lack their joules and tokens"


@router.get("/sessions", responses=documented(SessionsResponse, examples.SESSIONS))
def sessions(
    request: Request,
    reader: ReaderOf,
    period: PeriodOf,
    tenant: Tenant = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """Agents' sessions, by tenant and name, with what they did in the period: requests that ended in it, and usage that
    counts in it. Single requests are kept for 30 days; where workers store none, the answer has a note."""
    page = all_sessions(reader, period, Filter(tenant=tenant), PageRequest(limit, cursor))
    return respond(
        request,
        format_,
        plain_rows(page.rows),
        [field.name for field in fields(SessionRow)],
        next_=page.next,
        period=plain(period),
        simulated=any(row.simulated for row in page.rows),
        note=_NOT_KEPT if request.app.state.settings.requests == "none" else None,
    )


@router.get("/sessions/{session_id:path}", responses=documented(Session, examples.SESSION, 404))
def session(
    reader: ReaderOf,
    session_id: Annotated[str, Path(**NAME, examples=["s-1"])],
    tenant: Tenant = None,
) -> Response:
    """A session whole, and by step: energy of its requests with its cost, tokens, failures, tool calls, what was spent
    elsewhere by currency, and whatever else was metered for it. An operator says whose, where several tenants have one
    of that name."""
    return JSONResponse(plain(one_session(reader, session_id, tenant)))
