"""Evidence of GPUs' energy, for /metrics: counter or watts, of the GPU or its module; the age of an exporter's page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

GPU, MODULE = "gpu", "module"
"""Scope of a measurement: the GPU's board, or its module, which on Grace Hopper includes the CPU."""
OF_MODULE = " (module)"
"""Suffix of the name of hardware whose joules are its module's. It has idle floors and weights of its own."""


class GpuMeasurement(NamedTuple):
    """Evidence of one GPU: `evidence` is "counter", "watts" or "nothing", `scope` is GPU or MODULE."""

    evidence: str
    scope: str
    mig: bool = False


class _Report(Protocol):
    @property
    def measured(self) -> Mapping[str, GpuMeasurement]: ...


class EvidenceCollector(Collector):
    """Gauge of GPUs by how a sensor measures them."""

    def __init__(self, sensor: _Report) -> None:
        self._sensor = sensor

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily(
            "wattlog_producer_gpus", "GPUs by their evidence", labels=["evidence", "scope", "mig"]
        )
        for m, count in sorted(Counter(self._sensor.measured.values()).items()):
            gauge.add_metric([m.evidence, m.scope, str(int(m.mig))], count)
        yield gauge


class PageAgeCollector(Collector):
    """Gauge of the time for which what a page shows has stood, of one source on one node.

    It is asked at each scrape, so it also rises while the page cannot be read.
    """

    def __init__(self, age_ms: Callable[[], int | None], *, cluster: str, node: str, source: str) -> None:
        self._age_ms, self._labels = age_ms, (cluster, node, source)

    def collect(self) -> Iterable[Metric]:
        gauge = GaugeMetricFamily(
            "wattlog_producer_page_age_seconds", "Time for which what a page shows has stood",
            labels=["cluster", "node", "source"],
        )  # fmt: skip
        age_ms = self._age_ms()
        if age_ms is not None:
            gauge.add_metric(self._labels, age_ms / 1000)
        yield gauge
