"""What comes next, and what was odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import anomaly_report, examples, forecast_report
from api.anomaly_report import Episode, OddMeasure, Withheld
from api.auth import AnyCaller
from api.forecast_report import Measure, SeriesForecast, Step
from api.models import documented
from api.params import Cluster, FormatOf, Tenant, WarehouseOf
from api.serialization import plain, plain_rows, respond
from api.series import MAX_SERIES, STEP_MS, Freq
from api.single_flight import Memo
from warehouse.client import Warehouse
from warehouse.periods import newest

router = APIRouter(prefix="/v1", tags=["outlook"])
Found = TypeVar("Found")

Group = Literal["total", "tenant", "team", "cost_centre", "cluster", "workload", "model", "hardware"]
FreqOf = Annotated[Freq, Query(description="Length of a step.")]
Top = Annotated[int, Query(ge=1, le=MAX_SERIES, description="How many series, the largest first.")]


class ForecastAnswer(BaseModel):
    """One row a series. Estimates are numbers, never bookings; `withheld` says why there is none."""

    simulated: bool
    rows: list[SeriesForecast]
    next: None = None


class AnomalyAnswer(BaseModel):
    """Episodes, newest first. `withheld` are series that could not be judged: no episode of them is no clean bill."""

    simulated: bool
    judged: int
    withheld: list[Withheld]
    rows: list[Episode]
    next: None = None


@router.get("/forecast", responses=documented(ForecastAnswer, examples.FORECAST, csv=examples.FORECAST_CSV))
def forecast(
    request: Request,
    warehouse: WarehouseOf,
    caller: AnyCaller,
    measure: Annotated[Measure, Query(description="What to forecast.")] = "cost",
    by: Annotated[Group, Query(description="One series for each; `total` is one in all.")] = "total",
    freq: FreqOf = "day",
    horizon: Annotated[int, Query(ge=1, le=92, description="Steps ahead.")] = 30,
    tenant: Tenant = None,
    cluster: Cluster = None,
    top: Top = 5,
    format_: FormatOf = None,
) -> Response:
    """Steps ahead with 80 and 95 % intervals, this and the next month's totals, and how each model did on the past."""
    asked: dict[str, Any] = {
        "measure": measure,
        "by": by,
        "freq": freq,
        "horizon": horizon,
        "tenant": caller.scope(tenant),
        "cluster": cluster,
        "top": top,
    }
    found = _once(request, warehouse, "forecast", freq, asked, lambda: forecast_report.forecast(warehouse, **asked))
    return respond(
        request,
        format_,
        plain_rows(found),
        ["key", "measure", "unit", *(f.name for f in fields(Step))],
        csv_rows=_flat(found),
        simulated=any(row.simulated for row in found),
    )


@router.get("/anomalies", responses=documented(AnomalyAnswer, examples.ANOMALIES))
def anomalies(
    request: Request,
    warehouse: WarehouseOf,
    caller: AnyCaller,
    measure: Annotated[
        list[OddMeasure] | None,
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
    asked: dict[str, Any] = {
        "measures": tuple(dict.fromkeys(measure or ("cost", "energy", "joules_per_token"))),
        "by": by,
        "freq": freq,
        "tenant": caller.scope(tenant),
        "cluster": cluster,
        "top": top,
    }
    found = _once(request, warehouse, "anomalies", freq, asked, lambda: anomaly_report.anomalies(warehouse, **asked))
    return respond(
        request,
        format_,
        plain_rows(found.episodes),
        [f.name for f in fields(Episode)],
        simulated=any(row.simulated for row in found.episodes),
        judged=found.judged,
        withheld=plain_rows(found.withheld),
    )


def _once(
    request: Request, warehouse: Warehouse, name: str, freq: Freq, asked: dict[str, Any], compute: Callable[[], Found]
) -> Found:
    """The answer, computed once for each newest whole step: a step that is not over is no part of it. What late facts
    restate in older steps shows when the next step is over."""
    memo: Memo = request.app.state.memo
    step = (newest(warehouse).final_end or 0) // STEP_MS[freq]
    return memo.get((name, step, *asked.items()), compute)


def _flat(found: list[SeriesForecast]) -> list[dict[str, Any]]:
    """One row a step, for CSV."""
    return [
        {"key": row.key, "measure": row.measure, "unit": row.unit, **plain(step)} for row in found for step in row.steps
    ]
