"""How each GPU is measured, for /metrics: nobody should have to guess what a joule of his is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

GPU, MODULE = "gpu", "module"
"""What is measured: the GPU's board; or the whole module, which on Grace Hopper has the CPU on it."""


class Measurement(NamedTuple):
    """`evidence` is "counter" or "watts", or "nothing"."""

    evidence: str
    scope: str
    mig: bool = False


class _Report(Protocol):
    @property
    def measured(self) -> Mapping[str, Measurement]: ...


class EvidenceCollector(Collector):
    """Gauge of GPUs by how a sensor measures them."""

    def __init__(self, sensor: _Report) -> None:
        self._sensor = sensor

    def collect(self) -> Iterable[Metric]:
        found = GaugeMetricFamily(
            "wattlog_producer_gpus", "GPUs, by how they are measured", labels=["evidence", "scope", "mig"]
        )
        for how, count in sorted(Counter(self._sensor.measured.values()).items()):
            found.add_metric([how.evidence, how.scope, str(int(how.mig))], count)
        yield found
