"""What comes next, and what was odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import examples
from api.anomaly_report import DEFAULT_MEASURES, AnomalyMeasure, Episode, Withheld, anomaly_report
from api.auth import ReaderOf
from api.forecast_report import ForecastMeasure, ForecastStep, SeriesForecast, forecast_report, step_rows
from api.params import Cluster, FormatOf, Tenant
from api.response_models import documented
from api.serialization import plain_rows, respond
from api.single_flight import SingleFlightCache
from forecasting.ledger_series import MAX_SERIES, STEP_MS, Frequency
from warehouse.filters import Filter
from warehouse.periods import newest
from warehouse.reader import LedgerReader

router = APIRouter(prefix="/v1", tags=["outlook"])
Report = TypeVar("Report")

Group = Literal["total", "tenant", "team", "cost_centre", "cluster", "workload", "model", "hardware"]
FreqOf = Annotated[Frequency, Query(description="Length of a step.")]
Top = Annotated[int, Query(ge=1, le=MAX_SERIES, description="How many series, the largest first.")]


class ForecastResponse(BaseModel):
    """One row a series. Estimates are numbers, never bookings; `withheld` says why there is none."""

    simulated: bool
    rows: list[SeriesForecast]
    next: None = None


class AnomalyResponse(BaseModel):
    """Episodes, newest first. `withheld` are series that could not be judged: no episode of them is no clean bill."""

    simulated: bool
    judged: int
    withheld: list[Withheld]
    rows: list[Episode]
    next: None = None


@router.get("/forecast", responses=documented(ForecastResponse, examples.FORECAST, csv=examples.FORECAST_CSV))
def forecast(
    request: Request,
    reader: ReaderOf,
    measure: Annotated[ForecastMeasure, Query(description="What to forecast.")] = "cost",
    by: Annotated[Group, Query(description="One series for each; `total` is one in all.")] = "total",
    freq: FreqOf = "day",
    horizon: Annotated[int, Query(ge=1, le=92, description="Steps ahead.")] = 30,
    tenant: Tenant = None,
    cluster: Cluster = None,
    top: Top = 5,
    format_: FormatOf = None,
) -> Response:
    """Steps ahead with 80 and 95 % intervals, this and the next month's totals, and how each model did on the past."""
    options: dict[str, Any] = {
        "measure": measure,
        "by": by,
        "freq": freq,
        "horizon": horizon,
        "filter": reader.narrow(Filter(tenant=tenant, cluster=cluster)),
        "top": top,
    }
    report = _once(request, reader, "forecast", freq, options, lambda: forecast_report(reader, **options))
    return respond(
        request,
        format_,
        plain_rows(report),
        ["key", "measure", "unit", *(f.name for f in fields(ForecastStep))],
        csv_rows=step_rows(report),
        simulated=any(row.simulated for row in report),
    )


@router.get("/anomalies", responses=documented(AnomalyResponse, examples.ANOMALIES))
def anomalies(
    request: Request,
    reader: ReaderOf,
    measure: Annotated[
        list[AnomalyMeasure] | None,
        Query(max_length=4, description="What to look at; may be repeated. Else cost, energy and joules_per_token."),
    ] = None,
    by: Annotated[
        Group | None,
        Query(description="One series for each; `total` is all in one. Else J/token by workload, the rest by tenant."),
    ] = None,
    freq: FreqOf = "day",
    tenant: Tenant = None,
    cluster: Cluster = None,
    top: Top = MAX_SERIES,
    format_: FormatOf = None,
) -> Response:
    """Spikes and level shifts against the median of the past, merged into episodes."""
    options: dict[str, Any] = {
        "measures": tuple(dict.fromkeys(measure or DEFAULT_MEASURES)),
        "by": by,
        "freq": freq,
        "filter": reader.narrow(Filter(tenant=tenant, cluster=cluster)),
        "top": top,
    }
    report = _once(request, reader, "anomalies", freq, options, lambda: anomaly_report(reader, **options))
    return respond(
        request,
        format_,
        plain_rows(report.episodes),
        [f.name for f in fields(Episode)],
        simulated=any(row.simulated for row in report.episodes),
        judged=report.judged,
        withheld=plain_rows(report.withheld),
    )


def _once(
    request: Request,
    reader: LedgerReader,
    name: str,
    freq: Frequency,
    options: dict[str, Any],
    compute: Callable[[], Report],
) -> Report:
    """Return the report from the cache, or compute it: once per newest complete step and set of options.

    A step that is not over yet does not count. What late facts restate in older steps shows up after the next step.
    """
    cache: SingleFlightCache = request.app.state.report_cache
    step = (newest(reader).final_end or 0) // STEP_MS[freq]
    return cache.get((name, step, *options.items()), compute)
