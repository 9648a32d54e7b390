"""The /metrics of a producer's process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from contracts.settings import Settings


def serve_metrics(settings: Settings, registry: CollectorRegistry) -> None:
    """Serve the process's /metrics where `metrics_port` is set, with its own CPU seconds and memory."""
    if settings.metrics_port:
        ProcessCollector(registry=registry)
        start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=registry)
