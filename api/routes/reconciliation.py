"""Reconciliation: what two sources say of one quantity, by hour, and what is wrong."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field

from api.auth import FleetReader, LedgerRouter
from api.examples import reconciliation as examples
from api.exports import paged_rows
from api.params import Cluster, RequestedFormat, RequestedPage, ResolvedPeriod, Workload
from api.response_models import RowsResponse, documented
from api.serialization import plain, plain_rows, respond
from warehouse.filters import Filter
from warehouse.reconciliation import records
from warehouse.reconciliation.records import ComparedHour, ReconciliationFinding
from warehouse.results import Time

router = LedgerRouter(prefix="/v1", tags=["operations"])


class ReconciliationResponse(RowsResponse[ComparedHour]):
    """Page of compared hours. `findings` are those of the newest run, which compared so many pairs of series, ended at
    `until` and took place at `run_at`: both are null where `wattlog reconcile` never ran.
    """

    until: Time | None = None
    run_at: Time | None = None
    comparisons: int = 0
    findings: list[ReconciliationFinding] = Field(default_factory=list)


@router.get("/reconciliation", responses=documented(ReconciliationResponse, examples.RECONCILIATION))
def reconciliation(
    request: Request,
    reader: FleetReader,
    period: ResolvedPeriod,
    page_request: RequestedPage,
    cluster: Cluster = None,
    workload: Workload = None,
    format_: RequestedFormat = None,
) -> Response:
    """Each quantity that two sources tell, by hour and workload, as `wattlog reconcile` stored it, and what it found.
    Operators only."""
    read = partial(records.compared_hours, reader, period, Filter(cluster=cluster, workload=workload))
    page = read(page_request)
    run = records.newest_run(reader)
    return respond(
        request,
        format_,
        plain_rows(page.rows),
        [field.name for field in fields(ComparedHour)],
        csv_pages=paged_rows(read, page, page_request, plain_rows),
        is_whole=page_request.is_whole,
        next_=page.next,
        period=plain(period),
        simulated=False,
        until=plain(run)["until"],
        run_at=plain(run)["run_at"],
        comparisons=run.comparisons,
        findings=plain_rows(run.findings),
    )
