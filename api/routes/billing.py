"""Money, efficiency and the balance."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from api import examples
from api.auth import OperatorOf, ReaderOf
from api.params import By, Cluster, Cursor, FormatOf, Limit, PeriodOf, Tenant, split
from api.response_models import ChargebackResponse, RowsResponse, documented
from api.serialization import plain, plain_rows, respond
from warehouse.audit.conservation import audit
from warehouse.audit.report import Audit
from warehouse.chargeback import chargeback_queries
from warehouse.cursors import Page, PageRequest
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.results import ChargebackRow

router = APIRouter(prefix="/v1", tags=["billing"])


@router.get("/chargeback", responses=documented(ChargebackResponse, examples.CHARGEBACK))
def chargeback(
    request: Request,
    reader: ReaderOf,
    period: PeriodOf,
    by: By = "tenant",
    tenant: Tenant = None,
    cluster: Cluster = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """Energy, tokens, J/token, kWh, cost and gCO2eq by tenant, team, cost centre, cluster, workload, model, hardware,
    hour, day or month. Cost is rounded once, to millionths, by largest remainder: all rows sum to `total` exactly."""
    names = split(by)
    page, total = chargeback_queries.chargeback_and_total(
        reader, period, names, Filter(tenant=tenant, cluster=cluster), PageRequest(limit, cursor)
    )
    hidden = _ungrouped(names)
    return _grouped(
        request,
        format_,
        page,
        names,
        period=period,
        simulated=total.simulated,
        total=plain(total, exclude=hidden | set(names)),
    )


@router.get("/efficiency", responses=documented(RowsResponse[ChargebackRow], examples.EFFICIENCY))
def efficiency(
    request: Request,
    reader: ReaderOf,
    period: PeriodOf,
    bucket: Annotated[Literal["hour", "day", "month"], Query(description="Length of a time step.")] = "hour",
    by: By = "model",
    tenant: Tenant = None,
    cluster: Cluster = None,
    limit: Limit = 1000,
    cursor: Cursor = None,
    format_: FormatOf = None,
) -> Response:
    """J/token over time, per prompt and completion token and per completion token alone."""
    names = [bucket, *(name for name in split(by) if name != bucket)]
    page = chargeback_queries.efficiency(
        reader,
        period,
        bucket=bucket,
        by=names[1:],
        filter=Filter(tenant=tenant, cluster=cluster),
        page=PageRequest(limit, cursor),
    )
    return _grouped(request, format_, page, names, period=period, simulated=any(row.simulated for row in page.rows))


class Balance(BaseModel):
    """measured = active + idle + unallocated + residual; `ok` says that nothing is off and the log lost nothing."""

    period: Period
    ok: bool
    windows: int
    measured_uj: int
    active_uj: int
    idle_uj: int
    unallocated_uj: int
    residual_uj: int
    token_residual_tokens: int
    hour_residual_uj: int
    day_residual_uj: int
    sequence_gaps: int
    coverage_ratio: float
    simulated: bool


@router.get("/balance", responses=documented(Balance, examples.BALANCE))
def balance(request: Request, reader: OperatorOf, period: PeriodOf) -> Balance:
    """The books checked again from what is stored, measured facts against the ledger's rows. Operators only."""
    # An empty ledger's period is empty: nothing to check.
    found = Audit()
    if period.start < period.end:
        found = audit(reader, period, requests=request.app.state.settings.requests)
    names = [name for name in Balance.model_fields if name not in ("period", "ok", "simulated")]
    simulated = chargeback_queries.chargeback_total(reader, period).simulated
    return Balance(period=period, ok=found.ok, simulated=simulated, **{name: getattr(found, name) for name in names})


def _ungrouped(names: list[str]) -> set[str]:
    return set(chargeback_queries.DIMENSIONS) - set(names)


def _grouped(
    request: Request,
    format_: Any,
    page: Page[ChargebackRow],
    names: list[str],
    *,
    period: Any,
    simulated: bool,
    **envelope: Any,
) -> Response:
    fields = [name for name in ChargebackRow.__dataclass_fields__ if name not in chargeback_queries.DIMENSIONS]
    return respond(
        request,
        format_,
        plain_rows(page.rows, exclude=_ungrouped(names)),
        [*dict.fromkeys(names), *fields],
        next_=page.next,
        period=plain(period),
        simulated=simulated,
        **envelope,
    )
