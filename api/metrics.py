"""Prometheus metrics of HTTP requests and of the ledger's newest final window. Cardinality is bounded."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import WattlogError
from contracts.units import MS_PER_DAY, MS_PER_HOUR, UJ_PER_J
from warehouse.audit.names import recent_names_apart
from warehouse.audit.unnamed_tenants import recent_unnamed_tenants
from warehouse.client import Warehouse
from warehouse.cursors import MAX_LIMIT, Page, PageRequest, all_pages
from warehouse.ledger import ledger_queries
from warehouse.periods import newest
from warehouse.reader import operator_reader
from warehouse.reconciliation.records import newest_run
from warehouse.results import LatestRow

MAX_TENANTS = 100
"""Tenants with series of their own, the largest by energy. All others are summed under `__other__`."""
OTHER = "__other__"
MAX_CLUSTERS = 100
"""Clusters with series of their own, the silent ones first."""
MAX_WORKLOADS = 100
"""Workloads without GPUs with series of their own, those with most tokens."""
SILENT_MS = 900_000
"""A cluster without a window for so long is silent: three times the age of final windows that is an alert."""
KNOWN_MS = 7 * MS_PER_DAY
"""A cluster that is silent for longer counts as retired."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """ASGI middleware that counts requests and measures their duration, by route template and never by path."""

    def __init__(self, app: ASGIApp, *, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "wattlog_http_requests", "HTTP requests.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "wattlog_http_request_duration_seconds",
            "Time to answer an HTTP request.",
            ["method", "route"],
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            method = scope["method"] if scope["method"] in _METHODS else "(other)"
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - began)


class LedgerCollector:
    """Collector that reads the newest final window at each scrape.

    If the warehouse does not answer, the scrape has `wattlog_warehouse_up 0` and no ledger metrics.
    """

    def __init__(self, warehouse: Warehouse, now_s: Callable[[], float]) -> None:
        self._reader = operator_reader(warehouse)
        self._now_s = now_s

    def collect(self) -> Iterator[Metric]:
        try:
            metrics = list(self._ledger())
            up = 1
        except WattlogError:
            metrics, up = [], 0
        yield GaugeMetricFamily("wattlog_warehouse_up", "Whether the warehouse answered this scrape.", value=up)
        yield from metrics

    def _ledger(self) -> Iterator[Metric]:
        final_end = newest(self._reader).final_end
        if final_end is None:
            return
        end_s = final_end / 1000
        yield GaugeMetricFamily(
            "wattlog_final_end_timestamp_seconds", "End of the newest final window, in event time.", value=end_s
        )
        yield GaugeMetricFamily(
            "wattlog_final_age_seconds", "Age of the newest final window.", value=max(self._now_s() - end_s, 0.0)
        )
        yield self._silence()
        yield self._names(final_end)
        yield self._unnamed_tenants(final_end)
        yield from self._reconciliation()
        yield from _by_tenant(self._final_windows(final_end))

    def _final_windows(self, final_end_ms: int) -> Iterator[LatestRow]:
        """Yield the final windows before this end by tenant, newest first."""

        def read(page: PageRequest) -> Page[LatestRow]:
            return ledger_queries.latest(self._reader, final_end_ms, page=page)[1]

        pages = all_pages(read, read(PageRequest(MAX_LIMIT)))
        return (row for rows in pages for row in rows if row.final)

    def _names(self, final_end_ms: int) -> Metric:
        metric = GaugeMetricFamily(
            "wattlog_workload_unmetered_requests",
            "Requests of a workload without any GPU in this hour and the last, and a workload with GPUs alone.",
            labels=["cluster", "workload", "with_gpus"],
        )
        for finding in recent_names_apart(self._reader, final_end_ms, MS_PER_HOUR)[:MAX_WORKLOADS]:
            metric.add_metric([finding.cluster, finding.workload, finding.partner], finding.requests)
        return metric

    def _unnamed_tenants(self, final_end_ms: int) -> Metric:
        metric = GaugeMetricFamily(
            "wattlog_workload_unnamed_tenant_requests",
            "Requests in this hour and the last whose sender named no tenant.",
            labels=["cluster", "workload"],
        )
        for one in recent_unnamed_tenants(self._reader, final_end_ms, MS_PER_HOUR)[:MAX_WORKLOADS]:
            metric.add_metric([one.cluster, one.workload], one.requests)
        return metric

    def _reconciliation(self) -> Iterator[Metric]:
        try:
            run = newest_run(self._reader)
        except WattlogError:  # Its tables come with a migration: the other metrics do not wait for it.
            return
        if run.run_at is None:
            return
        yield GaugeMetricFamily(
            "wattlog_reconciliation_age_seconds", "Age of the newest run of `wattlog reconcile`.",
            value=max(self._now_s() - run.run_at / 1000, 0.0),
        )  # fmt: skip
        findings = GaugeMetricFamily(
            "wattlog_reconciliation_findings",
            "Findings of the newest run of `wattlog reconcile`.",
            labels=["cluster", "workload", "kind", "source"],
        )
        counts = Counts((f.cluster, f.workload, f.kind, f.source) for f in run.findings)
        for labels, count in counts.most_common(MAX_WORKLOADS):
            findings.add_metric(list(labels), count)
        yield findings

    def _silence(self) -> Metric:
        now_ms = int(self._now_s() * 1000)
        silence = GaugeMetricFamily(
            "wattlog_cluster_silent", "1 if nothing was metered in a cluster for 15 minutes.", labels=["cluster"]
        )
        clusters = ledger_queries.cluster_silence(
            self._reader, recent_ms=now_ms - SILENT_MS, known_ms=now_ms - KNOWN_MS, limit=MAX_CLUSTERS
        )
        for cluster, is_silent in clusters.items():
            silence.add_metric([cluster], int(is_silent))
        return silence


def _by_tenant(rows: Iterable[LatestRow]) -> Iterator[Metric]:
    """Yield the metrics of each tenant's newest window. Rows are ordered newest first."""
    newest_of: dict[str, LatestRow] = {}
    for row in rows:
        newest_of.setdefault(row.tenant, row)
    ranked = sorted(newest_of.values(), key=lambda row: -row.energy_uj)
    energy = GaugeMetricFamily(
        "wattlog_window_energy_joules",
        "Energy of a tenant's newest final window.",
        labels=["tenant", "part", "simulated"],
    )
    tokens = GaugeMetricFamily(
        "wattlog_window_tokens",
        "Prompt and completion tokens of a tenant's newest final window.",
        labels=["tenant", "simulated"],
    )
    groups: list[tuple[str, list[LatestRow]]] = [(row.tenant, [row]) for row in ranked[:MAX_TENANTS]]
    if ranked[MAX_TENANTS:]:
        groups.append((OTHER, ranked[MAX_TENANTS:]))
    for tenant, windows in groups:
        simulated = "true" if any(row.simulated for row in windows) else "false"
        for part in ("active", "idle", "unallocated"):
            total_uj = sum(getattr(row, f"{part}_uj") for row in windows)
            energy.add_metric([tenant, part, simulated], total_uj / UJ_PER_J)
        tokens.add_metric([tenant, simulated], sum(row.tokens for row in windows))
    yield energy
    yield tokens
