"""Calls whose sender named no tenant: a tenant of that name pays for them, and doctor names them."""

from __future__ import annotations

from typing import NamedTuple

from contracts.units import MS_PER_DAY, MS_PER_HOUR, counted
from contracts.workload_names import UNNAMED_TENANT
from warehouse.reader import LedgerReader

MAX_WORKLOADS = 1_000
HINT = (
    "Let the sender name one (wattlog.tenant on spans, a team of LiteLLM's keys), or set `otherwise` in "
    "[produce.otel.spans], [produce.litellm.payload] or [produce.otlp.rules]."
)
"""How to name a tenant."""


class UnnamedTenant(NamedTuple):
    """Tokens and requests of a workload without a tenant."""

    cluster: str
    workload: str
    tokens: int
    requests: int


def recent_unnamed_tenants(reader: LedgerReader, final_end_ms: int, span_ms: int = MS_PER_DAY) -> list[UnnamedTenant]:
    """Return the workloads with calls of no tenant in the ledger's last hours, most tokens first. For operators."""
    start_ms = max((final_end_ms - span_ms) // MS_PER_HOUR * MS_PER_HOUR, 0)
    rows = reader.ask("audit/unnamed_tenants", start_ms=start_ms, unnamed=UNNAMED_TENANT, limit=MAX_WORKLOADS)
    return [UnnamedTenant(row["of_cluster"], row["of_workload"], row["tokens"], row["requests"]) for row in rows]


def unnamed_sentence(unnamed: UnnamedTenant, when: str) -> str:
    """Return a workload's calls without a tenant in words; `when` is the time that they are of."""
    calls = f"{counted(unnamed.requests, 'request')} of workload {unnamed.cluster}/{unnamed.workload}"
    return f"{UNNAMED_TENANT} pays for {calls} {when}: the sender named no tenant"
