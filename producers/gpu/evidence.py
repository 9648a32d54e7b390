"""How each GPU is measured, for /metrics: nobody should have to guess what a joule of his is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

GPU, MODULE = "gpu", "module"
"""What is measured: the GPU's board; or the whole module, which on Grace Hopper has the CPU on it."""


class Measurement(NamedTuple):
    """`evidence` is "counter" or "watts", or "nothing"."""

    evidence: str
    scope: str
    mig: bool = False


@runtime_checkable
class MeasuringSensor(Protocol):
    """A sensor that says how it measures each GPU, by UUID."""

    @property
    def measured(self) -> Mapping[str, Measurement]: ...


class _MeasurementCollector(Collector):
    def __init__(self, sensor: MeasuringSensor) -> None:
        self._sensor = sensor

    def collect(self) -> Iterable[Metric]:
        found = GaugeMetricFamily(
            "wattlog_producer_gpus", "GPUs, by how they are measured", labels=["evidence", "scope", "mig"]
        )
        for how, count in sorted(Counter(self._sensor.measured.values()).items()):
            found.add_metric([how.evidence, how.scope, str(int(how.mig))], count)
        yield found


def register_gpu_metrics(sensor: object, registry: CollectorRegistry) -> None:
    """Show how a sensor measures, where it says so."""
    if isinstance(sensor, MeasuringSensor):
        registry.register(_MeasurementCollector(sensor))
