"""Metered usage beside energy and tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator

from api.auth import LedgerRouter, MoneyReader
from api.examples import usage as examples
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
        Literal["hour", "day", "month"] | None, Query(description="Length of a time step; without it, totals.")
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
    page = usage_queries.usage(reader, period, names, bucket, filter_, page_request)
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
