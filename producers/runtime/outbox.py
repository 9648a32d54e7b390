"""Resources that every running source needs: its spool with the delivery from it, and its /metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from contracts.settings import Settings
from producers.runtime.delivery import Delivery
from producers.runtime.publisher import Publisher, kafka_config
from producers.runtime.spool import Spool


@contextmanager
def open_outbox(settings: Settings, name: str, kafka: Mapping[str, object]) -> Iterator[tuple[Spool, Delivery]]:
    """Open the spool `data`/spool/NAME.db and the delivery that sends from it; `kafka` overrides client properties.

    Raises Unavailable where another process has the spool.
    """
    path, max_bytes = settings.data / "spool" / f"{name}.db", settings.spool_mb * 2**20
    with (
        closing(Spool(path, max_bytes=max_bytes)) as spool,
        Publisher({**kafka_config(settings), **kafka}) as publisher,
    ):
        yield spool, Delivery(spool, publisher)


def serve_metrics(settings: Settings, registry: CollectorRegistry) -> None:
    """Serve the process's /metrics where `metrics_port` is set, with its own CPU seconds and memory."""
    if settings.metrics_port:
        ProcessCollector(registry=registry)
        start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=registry)
