"""A node's pods, as its kubelet sums them up (`/stats/summary`): CPU, memory, network, storage.

https://kubernetes.io/docs/reference/instrumentation/node-metrics/. CPU and network are counters, memory and storage
levels. A part that a kubelet leaves out (no CNI figures, a pod that has just begun) is not 0 but unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import BadInput
from producers.common.counter_delta import CounterSnapshot, ObjectCounters
from producers.meters.observed import MeteredOwner, Observation
from producers.runtime.clock import Clock

KIND = "kubelet"
UNMATCHED = "unmatched/"
"""Before the namespace of a pod that no rule matches."""
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Cpu(msgspec.Struct, rename="camel"):
    usage_core_nano_seconds: _Count | None = None


class _Memory(msgspec.Struct, rename="camel"):
    working_set_bytes: _Count | None = None


class _Network(msgspec.Struct, rename="camel"):
    rx_bytes: _Count | None = None
    tx_bytes: _Count | None = None


class _Storage(msgspec.Struct, rename="camel"):
    used_bytes: _Count | None = None


class _Ref(msgspec.Struct):
    name: str
    namespace: str
    uid: str


class _Pod(msgspec.Struct, rename={"pod_ref": "podRef", "ephemeral": "ephemeral-storage"}):
    pod_ref: _Ref
    cpu: _Cpu | None = None
    memory: _Memory | None = None
    network: _Network | None = None
    volume: list[_Storage] = []
    ephemeral: _Storage | None = None


class _Node(msgspec.Struct, rename="camel"):
    node_name: str


class _Summary(msgspec.Struct):
    node: _Node
    pods: list[_Pod] = []


_read = msgspec.json.Decoder(_Summary).decode


class PodRule(BaseModel):
    """Pods whose namespace and name match are this workload's. Patterns may hold `*` and `?`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    namespace: str = Field("*", description="Namespace.")
    pod: str = Field("*", description="Pod's name.")
    workload: str = Field(description="Workload that they are.", min_length=1)
    tenant: str = Field("", description="Who pays; empty: nobody is named.")

    def matches(self, ref: _Ref) -> bool:
        return fnmatchcase(ref.namespace, self.namespace) and fnmatchcase(ref.name, self.pod)


class KubeletReader:
    """Looks at a node's pods. `fetch` gives the summary's text, or raises Unavailable."""

    def __init__(self, rules: Sequence[PodRule], fetch: Callable[[], str], name: str) -> None:
        self._rules, self._fetch, self._name = rules, fetch, name
        self._told: set[str] = set()

    def see(self, clock: Clock) -> Observation:
        """Raises BadInput for what is no summary."""
        text = self._fetch()
        t_ms = clock.wall_ms()
        try:
            summary = _read(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput("summary", self._name, f"is no kubelet's /stats/summary: {error}") from None
        things, places, notes = {}, {}, []
        for pod in summary.pods:
            ref = pod.pod_ref
            rule = next((rule for rule in self._rules if rule.matches(ref)), None)
            key = f"{ref.namespace}/{ref.name}"
            things[key] = _thing(pod, t_ms)
            dimensions = {"node": summary.node.node_name, "namespace": ref.namespace, "pod": ref.name}
            workload = rule.workload if rule else UNMATCHED + ref.namespace
            places[key] = MeteredOwner(workload, rule.tenant if rule else "", dimensions)
            if rule is None and ref.namespace not in self._told and len(self._told) < 1_000:
                self._told.add(ref.namespace)
                notes.append(f"no rule says whose pods of namespace {ref.namespace!r} are: they show as {workload!r}")
        return Observation(CounterSnapshot(t_ms, "", "", things), places, tuple(notes))


def _thing(pod: _Pod, t_ms: int) -> ObjectCounters:
    storage = [v.used_bytes for v in (*pod.volume, *([pod.ephemeral] if pod.ephemeral else []))]
    counters = {
        "cpu_ns": pod.cpu and pod.cpu.usage_core_nano_seconds,
        "received_bytes": pod.network and pod.network.rx_bytes,
        "sent_bytes": pod.network and pod.network.tx_bytes,
    }
    levels = {
        "memory_bytes": pod.memory and pod.memory.working_set_bytes,
        "storage_bytes": sum(b for b in storage if b is not None) if any(b is not None for b in storage) else None,
    }
    return ObjectCounters(
        t_ms, {n: v for n, v in counters.items() if v is not None}, {n: v for n, v in levels.items() if v is not None},
        pod.pod_ref.uid,
    )  # fmt: skip
