"""Prometheus metrics of Run:ai's producer, beside those of the poll loop."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class RunAiMetrics:
    """Prometheus metrics. Names of workloads are in the log, not here: they are unbounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"wattlog_producer_runai_{name}", text, registry=registry)

        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"wattlog_producer_runai_{name}", text, labels, registry=registry)

        self.waiting = gauge("failed_workloads", "Windows of workloads and pods that are to be read again")
        self.behind_s = gauge("behind_seconds", "How long ago the oldest window that is due and not read ended")
        self.failures = count("failures", "Windows of workloads and pods that could not be read", "reason")
        self.given_up = count("given_up", "Windows of workloads and pods that will not be read any more")
        self.missing = count("missing_samples", "Samples that Run:ai did not have: nothing is metered there", "metric")
