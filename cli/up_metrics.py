"""Metrics of `wattlog up`: those of its worker and of all its sources, on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from contracts.settings import Settings

Registries = Callable[[], Iterable[CollectorRegistry]]


class JoinedRegistries(Collector):
    """All families of several registries, each once. `registries` returns those of the sources that run now.

    Series of two sources that agree in name and labels are added.
    """

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the families change while sources come and go."""
        return ()

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for registry in self._registries():
            for family in registry.collect():
                known = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                known.samples.extend(family.samples)
        for family in families.values():
            sums: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
            samples: list[Sample] = []
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                if (at := sums.get(key)) is None:
                    sums[key] = len(samples)
                    samples.append(sample)
                else:
                    samples[at] = samples[at]._replace(value=samples[at].value + sample.value)
            family.samples = samples
            yield family


def serve_joined_metrics(settings: Settings, registries: Registries) -> None:
    """Serve the worker's and the sources' metrics where `metrics_port` is set."""
    if settings.metrics_port:
        page = CollectorRegistry()
        page.register(JoinedRegistries(lambda: (REGISTRY, *registries())))
        start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=page)
