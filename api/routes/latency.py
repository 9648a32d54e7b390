"""Latencies of requests, grouped by dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from api.auth import CallerReader, LedgerRouter
from api.examples import latency as examples
from api.exports import paged_rows
from api.latency_rows import flat_latency_row, latency_columns
from api.params import Cluster, CoveredPeriod, Dimensions, RequestedFormat, RequestedPage, Tenant, split_names
from api.response_models import RowsResponse, documented
from api.serialization import plain, plain_rows, respond
from warehouse.filters import Filter
from warehouse.latency import latency_queries
from warehouse.latency.latency_queries import LatencyRow
from warehouse.ledger.known_names import with_known_names

router = LedgerRouter(prefix="/v1", tags=["ledger"])


@router.get("/latency", responses=documented(RowsResponse[LatencyRow], examples.LATENCY, csv=examples.LATENCY_CSV))
def latency(
    request: Request,
    reader: CallerReader,
    period: CoveredPeriod,
    page_request: RequestedPage,
    by: Dimensions = "tenant",
    tenant: Tenant = None,
    cluster: Cluster = None,
    format_: RequestedFormat = None,
) -> Response:
    """Time to the first token, per output token, of the whole request and in the queue: P50, P95 and P99 of requests
    that ended well, by any dimensions. From histograms that add up exactly, true to one part in eight."""
    names = list(dict.fromkeys(split_names(by)))
    filter_ = Filter(tenant=tenant, cluster=cluster)
    read = with_known_names(reader, filter_, partial(latency_queries.latencies, reader, period, names, filter_))
    page = read(page_request)

    def flat(part: Sequence[LatencyRow]) -> list[dict[str, Any]]:
        return [flat_latency_row(row) for row in plain_rows(part)]

    rows = plain_rows(page.rows)
    return respond(
        request,
        format_,
        rows,
        latency_columns(names),
        csv_pages=paged_rows(read, page, page_request, flat),
        is_whole=page_request.is_whole,
        next_=page.next,
        period=plain(period),
        simulated=any(row.simulated for row in page.rows),
    )
