"""Metered usage beside energy and tokens."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator

from api.auth import LedgerRouter, MoneyReader
from api.examples import usage as examples
from api.exports import paged_rows
from api.params import (
    NAME,
    Cluster,
    RequestedFormat,
    RequestedPage,
    ResolvedPeriod,
    Tenant,
    Workload,
    split_names,
)
from api.response_models import RowsResponse, documented
from api.serialization import plain, plain_rows, respond
from api.usage_rows import flat_usage_row, hidden_usage_fields, usage_columns
from warehouse.filters import Filter
from warehouse.ledger.known_names import with_known_names
from warehouse.results import UsageGroup
from warehouse.usage import usage_queries

router = LedgerRouter(prefix="/v1", tags=["usage"])

_DIMENSION = f"({'|'.join(usage_queries.GROUPS)}|dimensions\\.[^,]+)"


def _checked_dimensions(by: str) -> str:
    usage_queries.check_by(split_names(by))
    return by


UsageDimensions = Annotated[
    str,
    AfterValidator(_checked_dimensions),
    Query(
        max_length=1_000,
        examples=["tenant,dimensions.pod"],
        description=f"Group by these, comma-separated: {', '.join(usage_queries.GROUPS)}, or `dimensions.KEY` for "
        "any key that rows are broken down by. Rows are always grouped by meter and unit.",
        json_schema_extra={"pattern": f"^({_DIMENSION}(,{_DIMENSION})*)?$"},
    ),
]


@router.get("/usage", responses=documented(RowsResponse[UsageGroup], examples.USAGE, csv=examples.USAGE_CSV))
def usage(
    request: Request,
    reader: MoneyReader,
    period: ResolvedPeriod,
    page_request: RequestedPage,
    by: UsageDimensions = "tenant",
    bucket: Annotated[
        Literal["hour", "day", "week", "month"] | None, Query(description="Length of a time step; without it, totals.")
    ] = None,
    meter: Annotated[str | None, Query(**NAME, description="Only this meter.", examples=["gpu_minutes"])] = None,
    tenant: Tenant = None,
    cluster: Cluster = None,
    workload: Workload = None,
    format_: RequestedFormat = None,
) -> Response:
    """Metered quantities (GPU minutes, tool calls, external spend ...) by meter and unit, summed exactly. A row counts
    in full in the step of its last millisecond."""
    names = split_names(by)
    filter_ = Filter(tenant=tenant, cluster=cluster, workload=workload, meter=meter)
    read = with_known_names(reader, filter_, partial(usage_queries.usage, reader, period, names, bucket, filter_))
    page = read(page_request)
    columns = usage_columns(names, bucket)
    plain_of = partial(plain_rows, exclude=hidden_usage_fields(columns))
    rows = plain_of(page.rows)
    return respond(
        request,
        format_,
        rows,
        columns,
        csv_pages=paged_rows(read, page, page_request, lambda part: [flat_usage_row(row) for row in plain_of(part)]),
        is_whole=page_request.is_whole,
        next_=page.next,
        period=plain(period),
        simulated=any(row.simulated for row in page.rows),
    )
