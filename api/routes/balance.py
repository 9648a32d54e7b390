"""Balance: a check that the ledger accounts for every measured joule."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel

from api.auth import FleetReader, LedgerRouter
from api.examples import billing as examples
from api.params import ResolvedPeriod
from api.response_models import documented
from warehouse.audit.conservation import audit
from warehouse.audit.findings import WorkloadWithoutGpu
from warehouse.audit.report import Audit, Equation
from warehouse.chargeback import chargeback_queries
from warehouse.periods import Period

router = LedgerRouter(prefix="/v1", tags=["billing"])


class Balance(BaseModel):
    """measured = active + idle + unallocated + residual. `ok`: the residuals are 0, and the log lost no event.

    `*_uj` and `*_ms` by evidence (counter, integrated from watts, estimated) are energy and GPU time; `uncovered_ms` is
    GPU time without any. `measured_ratio` is coverage without estimates. `gpus_unbound` were in no workload at all;
    `nodes_silent` counts silent nodes, and a cluster that is silent as a whole once. `parts` has the same equation of
    GPUs, of hosts and of the wall, where there is such energy; `nodes_counted_twice` have both of the latter.
    `names_apart` are workloads with tokens and no GPU, with the line of configuration that would join each.
    """

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
    measured_ratio: float
    counter_uj: int
    integrated_uj: int
    estimated_uj: int
    counter_ms: int
    integrated_ms: int
    estimated_ms: int
    uncovered_ms: int
    gpus_with_estimates: int
    gpus_unbound: int
    nodes_silent: int
    parts: dict[str, Equation]
    nodes_counted_twice: int
    nodes_without_host: int
    names_apart: list[WorkloadWithoutGpu]
    simulated: bool


@router.get("/balance", responses=documented(Balance, examples.BALANCE))
def balance(request: Request, reader: FleetReader, period: ResolvedPeriod) -> Balance:
    """Measured facts compared with the ledger's rows, as both are stored. Operators only."""
    report = Audit()  # Of an empty ledger, whose period is empty.
    if period.start < period.end:
        report = audit(reader, period, requests=request.app.state.settings.requests)
    names = [name for name in Balance.model_fields if name not in ("period", "ok", "simulated")]
    figures = {name: getattr(report, name) for name in names}
    simulated = chargeback_queries.chargeback_total(reader, period).simulated
    return Balance(period=period, ok=report.ok, simulated=simulated, **figures)
