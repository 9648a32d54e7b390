"""Anomalies in the ledger's series."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api.anomaly_report import DEFAULT_MEASURES, AnomalyMeasure, Episode, Withheld, anomaly_report
from api.auth import CallerReader, LedgerRouter, require_money
from api.examples import forecasts as examples
from api.params import Cluster, RequestedBoundary, RequestedFormat, SeriesGrouping, SeriesTop, StepFrequency, Tenant
from api.report_cache import cached_report
from api.response_models import documented
from api.serialization import plain_rows, respond
from forecasting.ledger_series import MAX_SERIES
from warehouse.filters import Filter
from warehouse.ledger.known_names import check_names

router = LedgerRouter(prefix="/v1", tags=["outlook"])


class AnomalyResponse(BaseModel):
    """Episodes, newest first. `withheld` lists series that could not be judged: they may have had anomalies, too."""

    simulated: bool
    judged: int
    withheld: list[Withheld]
    rows: list[Episode]
    next: None = None


@router.get("/anomalies", responses=documented(AnomalyResponse, examples.ANOMALIES))
def anomalies(
    request: Request,
    reader: CallerReader,
    measure: Annotated[
        list[AnomalyMeasure] | None,
        Query(
            max_length=4,
            description="Measure to judge; may be repeated. Without it: cost, energy and joules_per_token.",
        ),
    ] = None,
    by: Annotated[
        SeriesGrouping | None,
        Query(
            description="One series per value; `total` is one of everything. Without it: J/token by workload, other "
            "measures by tenant."
        ),
    ] = None,
    freq: StepFrequency = "day",
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: RequestedBoundary = None,
    top: SeriesTop = MAX_SERIES,
    format_: RequestedFormat = None,
) -> Response:
    """Spikes and level shifts against the median of the past, merged into episodes."""
    measures = tuple(dict.fromkeys(measure or DEFAULT_MEASURES))
    if "cost" in measures:
        require_money(request)
    filter_ = Filter(tenant=tenant, cluster=cluster, boundary=boundary)
    report = cached_report(
        request,
        anomaly_report,
        reader,
        filter=filter_,
        freq=freq,
        measures=measures,
        by=by,
        top=top,
    )
    if not report.judged and not report.withheld:
        check_names(reader, filter_)
    return respond(
        request,
        format_,
        plain_rows(report.episodes),
        [field.name for field in fields(Episode)],
        simulated=any(row.simulated for row in report.episodes),
        judged=report.judged,
        withheld=plain_rows(report.withheld),
    )
