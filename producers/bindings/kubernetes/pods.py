"""Pods that hold GPUs: the kubelet says which container has which device, the API server how its pod is labelled.

What a device is called (NVIDIA's device plugin): `GPU-...`; `GPU-...::3`, the replica 3 of a time-sliced one; `MIG-...`
for an instance, `MIG-...::0` for a replica of one. By dynamic resource allocation a container has CDI devices, of which
only those that name a UUID can be told apart here; others are told as unknown.

The kubelet is believed on who holds what, the API server on what that is. A pod that has ended holds nothing, though
the kubelet may go on to name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import WattlogError
from producers.bindings.claims import Claim, Found, Holder, Oddity, Topology, tenant_fault, text, workload_fault

NAME = "kubernetes"
LABELS_MS = 60_000
"""How long labels are good without asking again, unless a pod comes that nobody knows yet."""
_ENDED = ("Succeeded", "Failed")
_CRON = re.compile(r"-\d{8,10}$")
"""What a CronJob puts behind its name: minutes since 1970."""


class PodDevice(NamedTuple):
    """A device of a container."""

    namespace: str
    pod: str
    container: str
    device: str


class Owner(msgspec.Struct, frozen=True):
    kind: str
    name: str
    controller: bool = False


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str
    labels: dict[str, str] = {}
    owner_references: tuple[Owner, ...] = ()


class Status(msgspec.Struct, frozen=True):
    phase: str = ""


class Pod(msgspec.Struct, frozen=True):
    """What is read of a pod; its containers, and what stands in their environment, are not."""

    metadata: Metadata
    status: Status = Status()


Pods = Mapping[tuple[str, str], Pod]
"""By (namespace, name)."""


class Labels(BaseModel):
    """What a pod's labels are called."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workload: str = Field("wattlog.io/workload", description="Workload, as its requests name it.")
    tenant: str = Field("wattlog.io/tenant", description="Who pays when it is idle.")
    team: str = Field("wattlog.io/team", description="Team.")
    cost_centre: str = Field("wattlog.io/cost-centre", description="Cost centre.")
    model: str = Field("wattlog.io/model", description="Model that it serves.")


class Kubelet(Protocol):
    """`producers.bindings.kubernetes.kubelet.PodResources`."""

    def devices(self) -> Sequence[PodDevice]: ...


class Api(Protocol):
    """`producers.bindings.kubernetes.api_server.ApiServer`."""

    def pods(self) -> Pods: ...


class Kubernetes:
    """See the module. Labels are asked for when a pod is not known, when two claim one device, and every LABELS_MS.
    While the API server does not answer, what it said last is good for `keep_ms`."""

    name = NAME

    def __init__(
        self, kubelet: Kubelet, api: Api, labels: Labels, *, keep_ms: int,
        tenant_from: Literal["label", "namespace"] = "label",
    ) -> None:  # fmt: skip
        self._kubelet, self._api, self._labels, self._keep_ms = kubelet, api, labels, keep_ms
        self._tenant_from = tenant_from
        self._pods: Pods = {}
        self._read_ms: int | None = None

    def read(self, topology: Topology, now_ms: int) -> Found:
        devices = self._kubelet.devices()
        odd: list[Oddity] = []
        if devices and self._must_ask(devices, now_ms):
            try:
                self._pods, self._read_ms = self._api.pods(), now_ms
            except WattlogError as error:
                odd.append(Oddity("unknown_holder", f"labels of pods cannot be read: {error}"))
                if self._read_ms is None or now_ms - self._read_ms > self._keep_ms:
                    self._pods = {}
        found = claims(devices, self._pods, self._labels, self._tenant_from)
        return Found(found.claims, (*odd, *found.oddities))

    def _must_ask(self, devices: Sequence[PodDevice], now_ms: int) -> bool:
        if self._read_ms is None or now_ms - self._read_ms >= LABELS_MS:
            return True
        holders: dict[str, tuple[str, str]] = {}
        for d in devices:
            pod = (d.namespace, d.pod)
            if pod not in self._pods or holders.setdefault(d.device, pod) != pod:
                return True
        return False


def claims(devices: Iterable[PodDevice], pods: Pods, labels: Labels, tenant_from: str = "label") -> Found:
    """The claims of containers, by what is known of their pods."""
    found: list[Claim] = []
    odd: dict[Oddity, None] = {}
    for d in devices:
        device, _, replica = d.device.partition("::")
        pod = pods.get((d.namespace, d.pod))
        if pod is None:
            odd[Oddity("unknown_holder", f"{d.namespace}/{d.pod} holds {d.device}, and nothing is known of it")] = None
            found.append(Claim(device, None, replica))
        elif pod.status.phase not in _ENDED:
            holder, wrong = _holder(d, pod, labels, tenant_from)
            odd.update(dict.fromkeys(wrong))
            found.append(Claim(device, holder, replica))
    return Found(found, tuple(odd))


def _holder(d: PodDevice, pod: Pod, labels: Labels, tenant_from: str) -> tuple[Holder, list[Oddity]]:
    said, odd = pod.metadata.labels, list[Oddity]()
    where = f"{d.namespace}/{d.pod}"
    workload, rule = said.get(labels.workload, ""), "label"
    if workload and (fault := workload_fault(workload)):
        odd.append(Oddity("bad_name", f"{where}: the label {labels.workload} is {text(workload)!r}: {fault}"))
        workload = ""
    if not workload:
        name, rule = controller(pod)
        workload = text(f"{d.namespace}/{name}")
        odd.append(
            Oddity("no_label", f"{where} has no label {labels.workload} to use: called {workload}, by its {rule}")
        )
    tenant = d.namespace if tenant_from == "namespace" else said.get(labels.tenant, "")
    if tenant and (fault := tenant_fault(tenant)):
        odd.append(Oddity("bad_name", f"{where}: the tenant {text(tenant)!r} cannot be used: {fault}"))
        tenant = ""
    elif not tenant:
        odd.append(Oddity("no_tenant", f"{where} has no label {labels.tenant}: nobody pays when it is idle"))
    team, cost_centre, model = (said.get(n, "") for n in (labels.team, labels.cost_centre, labels.model))
    return Holder(
        workload, tenant, NAME, d.namespace, d.pod, d.container, team, cost_centre, model, rule
    ), odd  # fmt: skip


def controller(pod: Pod) -> tuple[str, str]:
    """The name of what made a pod, and its kind: a Deployment's without its ReplicaSet's hash, a CronJob's without the
    time; a StatefulSet's, Job's or any other's as it is; the pod's own where nothing made it."""
    made_by = next((o for o in pod.metadata.owner_references if o.controller), None)
    if made_by is None:
        return pod.metadata.name, "pod"
    name, kind = made_by.name, made_by.kind
    template = pod.metadata.labels.get("pod-template-hash", "")
    if kind == "ReplicaSet" and template and name.endswith(f"-{template}"):
        return name.removesuffix(f"-{template}"), "Deployment"
    if kind == "Job" and (stamp := _CRON.search(name)):
        return name[: stamp.start()], "CronJob"
    return name, kind
