"""Forecasts of the ledger's series, and of month totals."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api.auth import CallerReader, LedgerRouter, require_money
from api.examples import forecasts as examples
from api.forecast_report import ForecastMeasure, ForecastStep, SeriesForecast, forecast_report, step_rows
from api.params import Cluster, RequestedBoundary, RequestedFormat, SeriesGrouping, SeriesTop, StepFrequency, Tenant
from api.report_cache import cached_report
from api.response_models import documented
from api.serialization import plain_rows, respond
from warehouse.filters import Filter
from warehouse.ledger.known_names import check_names

router = LedgerRouter(prefix="/v1", tags=["outlook"])


class ForecastResponse(BaseModel):
    """One row per series. Estimates are numbers and never bookings. `withheld` says why a series has no forecast."""

    simulated: bool
    rows: list[SeriesForecast]
    next: None = None


@router.get("/forecast", responses=documented(ForecastResponse, examples.FORECAST, csv=examples.FORECAST_CSV))
def forecast(
    request: Request,
    reader: CallerReader,
    measure: Annotated[ForecastMeasure, Query(description="Measure to forecast.")] = "cost",
    by: Annotated[SeriesGrouping, Query(description="One series per value; `total` is one of everything.")] = "total",
    freq: StepFrequency = "day",
    horizon: Annotated[int, Query(ge=1, le=92, description="Steps ahead.")] = 30,
    tenant: Tenant = None,
    cluster: Cluster = None,
    boundary: RequestedBoundary = None,
    top: SeriesTop = 5,
    format_: RequestedFormat = None,
) -> Response:
    """Steps ahead with 80 and 95 % intervals, totals of this and the next month, and each model's accuracy on the
    past."""
    if measure == "cost":
        require_money(request)
    filter_ = Filter(tenant=tenant, cluster=cluster, boundary=boundary)
    forecasts = cached_report(
        request,
        forecast_report,
        reader,
        filter=filter_,
        freq=freq,
        measure=measure,
        by=by,
        horizon=horizon,
        top=top,
    )
    if not forecasts:
        check_names(reader, filter_)
    return respond(
        request,
        format_,
        plain_rows(forecasts),
        ["key", "measure", "unit", *(field.name for field in fields(ForecastStep))],
        csv_pages=iter([step_rows(forecasts)]),
        simulated=any(row.simulated for row in forecasts),
    )
