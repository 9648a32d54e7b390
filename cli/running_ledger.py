"""Checks of a ledger that another process of this machine has open: `wattlog up` or `demo`, asked over its API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from cli.finding import Finding
from contracts.errors import Unavailable, WattlogError
from contracts.host_port import host_port
from contracts.settings import Settings
from contracts.units import counted
from producers.common import prometheus_text
from producers.common.http_client import Pages
from warehouse.audit.findings import WorkloadWithoutGpu
from warehouse.audit.names import sentence
from warehouse.audit.unnamed_tenants import HINT, UnnamedTenant, unnamed_sentence

UNMETERED = "wattlog_workload_unmetered_requests"
UNNAMED = "wattlog_workload_unnamed_tenant_requests"
MAX_NAMES = 10


def running_ledger(settings: Settings, in_use: Unavailable) -> Iterator[Finding]:
    """Yield the findings of the API that serves the open folder. Raises `in_use` where none answers."""
    address = f"http://{host_port(settings.api_host, settings.api_port)}"
    with Pages(timeout_s=5.0) as pages:
        try:
            page = prometheus_text.parse_page(pages.text(f"{address}/metrics"))
            balance = json.loads(pages.text(f"{address}/v1/balance"))
        except (WattlogError, ValueError):
            raise in_use from None
    yield Finding("warehouse", "ok", f"{settings.dsn} is open in the process that serves {address}")
    joins = {(apart["cluster"], apart["workload"]): apart["join"] for apart in balance["names_apart"]}
    yield from _names(page, joins)
    yield from _tenants(page)
    says = (
        f"{counted(balance['windows'], 'window')}, residual {balance['residual_uj']} uJ, "
        f"{counted(balance['sequence_gaps'], 'event')} missing"
    )
    hint = "" if balance["ok"] else "Stop it, then run `wattlog audit`."
    yield Finding("books", "ok" if balance["ok"] else "failed", says, hint)


def _names(page: prometheus_text.PrometheusPage, joins: Mapping[tuple[str, str], str]) -> Iterator[Finding]:
    """Yield the workloads whose tokens met no GPU in the last hour, with the line that joins each where it is known."""
    rows = [labels for labels, value in page.get(UNMETERED) if value]
    for labels in rows[:MAX_NAMES]:
        cluster, partner = labels.get("cluster", ""), labels.get("with_gpus", "")
        apart = WorkloadWithoutGpu(
            tokens=0, requests=0, cluster=cluster, workload=labels.get("workload", ""), partner_cluster=cluster,
            partner=partner, candidates=[], join="",
        )  # fmt: skip
        join = joins.get((cluster, apart.workload)) or "`wattlog up` prints the line that joins them."
        yield Finding("names", "failed", sentence(apart), join)
    if not rows:
        yield Finding("names", "ok", "each workload with tokens has GPUs")


def _tenants(page: prometheus_text.PrometheusPage) -> Iterator[Finding]:
    """Yield the workloads with calls of no tenant in the last hour."""
    for labels, value in [row for row in page.get(UNNAMED) if row[1]][:MAX_NAMES]:
        unnamed = UnnamedTenant(labels.get("cluster", ""), labels.get("workload", ""), 0, int(value))
        yield Finding("tenants", "note", unnamed_sentence(unnamed, "in the last hour"), HINT)
