"""Prometheus metrics of the bindings of an agent's GPUs."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from producers.bindings.apportion import GpuShares, binding_weights
from producers.bindings.claims import WARNING_KINDS, BindingWarning
from producers.bindings.resolution import SharesByGpu

STATES = ("bound", "shared", "unallocated")


class BindingMetrics:
    """Metrics of bindings. Their labels are few: states and kinds are lists in the code, sources are configured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.gpus = Gauge("wattlog_producer_held_gpus", "GPUs by who holds them", ["state"], registry=registry)
        self.warnings = Gauge(
            "wattlog_producer_binding_oddities", "Warnings about bindings now", ["kind"], registry=registry
        )
        self.failures = Counter(
            "wattlog_producer_binding_failures", "Failed readings of a source of bindings", ["source"],
            registry=registry,
        )  # fmt: skip
        self.age = Gauge("wattlog_producer_binding_age_seconds", "Age of the bindings", registry=registry)

    def update(self, gpus: Sequence[str], shares: SharesByGpu, warnings: Sequence[BindingWarning]) -> None:
        """Set the gauges to a snapshot."""
        states = Count(_state(shares.get(gpu)) for gpu in gpus)
        kinds = Count(warning.kind for warning in warnings)
        for state in STATES:
            self.gpus.labels(state).set(states[state])
        for kind in WARNING_KINDS:
            self.warnings.labels(kind).set(kinds[kind])


def _state(shares: GpuShares | None) -> str:
    if not shares:
        return "unallocated"
    if len(binding_weights(shares)) > 1:
        return "shared"
    return "bound" if shares[0].about else "unallocated"
