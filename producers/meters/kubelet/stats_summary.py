"""Reads counters and levels of a node's pods from its kubelet (`/stats/summary`): CPU, memory, network, storage.

https://kubernetes.io/docs/reference/instrumentation/node-metrics/. CPU and network are counters, memory and storage are
levels. A part that a kubelet leaves out (no figures from the CNI, a pod that has just begun) is unknown, not 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from contracts.errors import BadInput
from producers.common.counter_delta import CounterSnapshot, ObjectCounters
from producers.common.json_text import decode_or_repair
from producers.meters.kubelet.config import PodRule
from producers.meters.observations import MeteredOwner, Observation, check_counts
from producers.runtime.clock import Clock
from producers.runtime.refusals import read_each, shorten

KIND = "kubelet"
UNMATCHED_PREFIX = "unmatched/"
"""Precedes the namespace of a pod that no rule matches."""
MAX_NAMESPACES = 1_000
"""Namespaces without a rule that are logged."""
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
    pods: list[msgspec.Raw] = []


_decode_summary = msgspec.json.Decoder(_Summary).decode
_decode_pod = msgspec.json.Decoder(_Pod).decode


class KubeletReader:
    """Observes the pods of a node. `fetch` returns the text of the summary, or raises Unavailable."""

    def __init__(self, rules: Sequence[PodRule], fetch: Callable[[], str], name: str) -> None:
        self._rules, self._fetch, self._name = rules, fetch, name
        self._unmatched: set[str] = set()

    def observe(self, clock: Clock) -> Observation:
        """Read the counters and levels of all pods. A malformed pod is refused alone.

        Raises BadInput if the text is no summary, or if every pod is malformed.
        """
        text = self._fetch()
        t_ms = clock.wall_ms()
        try:
            summary = decode_or_repair(text.encode(errors="replace"), _decode_summary)
        except Exception as error:
            raise BadInput("summary", self._name, f"is no kubelet's /stats/summary: {shorten(error)}") from None
        objects: dict[str, ObjectCounters] = {}
        owners: dict[str, MeteredOwner] = {}
        refused, notes = list[str](), list[str]()
        placed = ((f"{self._name}, pod {n}", bytes(raw)) for n, raw in enumerate(summary.pods))
        for pod, counters in read_each(placed, lambda raw: _read_pod(raw, t_ms), refused, show=True):
            namespace, name = pod.pod_ref.namespace, pod.pod_ref.name
            rule = next((rule for rule in self._rules if rule.matches(namespace, name)), None)
            workload = rule.workload if rule else UNMATCHED_PREFIX + namespace
            dimensions = {"node": summary.node.node_name, "namespace": namespace, "pod": name}
            objects[f"{namespace}/{name}"] = counters
            owners[f"{namespace}/{name}"] = MeteredOwner(workload, rule.tenant if rule else "", dimensions)
            if rule is None and namespace not in self._unmatched and len(self._unmatched) < MAX_NAMESPACES:
                self._unmatched.add(namespace)
                notes.append(
                    f"no rule names the workload of pods in namespace {namespace!r}: they show as {workload!r}"
                )
        if refused and not objects:
            raise BadInput("summary", self._name, f"is no kubelet's /stats/summary: {refused[0]}")
        return Observation(CounterSnapshot(t_ms, "", "", objects), owners, tuple(notes), tuple(refused))


def _read_pod(raw: bytes, t_ms: int) -> tuple[_Pod, ObjectCounters]:
    pod = _decode_pod(raw)
    counters = _counters(pod, t_ms)
    check_counts(counters)
    return pod, counters


def _counters(pod: _Pod, t_ms: int) -> ObjectCounters:
    storage = [v.used_bytes for v in (*pod.volume, *([pod.ephemeral] if pod.ephemeral else []))]
    counters = {
        "cpu_ns": pod.cpu.usage_core_nano_seconds if pod.cpu else None,
        "received_bytes": pod.network.rx_bytes if pod.network else None,
        "sent_bytes": pod.network.tx_bytes if pod.network else None,
    }
    levels = {
        "memory_bytes": pod.memory.working_set_bytes if pod.memory else None,
        "storage_bytes": sum(b for b in storage if b is not None) if any(b is not None for b in storage) else None,
    }
    return ObjectCounters(
        t_ms, {n: v for n, v in counters.items() if v is not None}, {n: v for n, v in levels.items() if v is not None},
        pod.pod_ref.uid,
    )  # fmt: skip
