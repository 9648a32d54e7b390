"""What an agent shows of its GPUs' holders to Prometheus."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from producers.bindings.apportion import GpuShares, binding_weights
from producers.bindings.claims import WARNING_KINDS, BindingWarning

STATES = ("bound", "shared", "unallocated")


class BindingMetrics:
    """Labels are few: states and kinds are lists of the code, sources are those of the configuration."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.gpus = Gauge("wattlog_producer_held_gpus", "GPUs by who holds them", ["state"], registry=registry)
        self.oddities = Gauge(
            "wattlog_producer_binding_oddities", "What is odd about bindings now", ["kind"], registry=registry
        )
        self.failures = Counter(
            "wattlog_producer_binding_failures", "Times that a source of bindings did not answer", ["source"],
            registry=registry,
        )  # fmt: skip
        self.age = Gauge("wattlog_producer_binding_age_seconds", "Since bindings were last seen", registry=registry)

    def show(self, gpus: Sequence[str], holdings: Mapping[str, GpuShares], oddities: Sequence[BindingWarning]) -> None:
        """A look's result."""
        states = Count(_state(holdings.get(gpu)) for gpu in gpus)
        kinds = Count(odd.kind for odd in oddities)
        for state in STATES:
            self.gpus.labels(state).set(states[state])
        for kind in WARNING_KINDS:
            self.oddities.labels(kind).set(kinds[kind])


def _state(holding: GpuShares | None) -> str:
    if not holding:
        return "unallocated"
    held = binding_weights(holding)
    if len(held) > 1:
        return "shared"
    return "bound" if holding[0].about else "unallocated"
