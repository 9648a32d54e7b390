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

from contracts.errors import WattlogError
from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    WorkloadHolder,
    printable,
    tenant_fault,
    workload_fault,
)
from producers.bindings.config import PodLabelNames

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


class OwnerReference(msgspec.Struct, frozen=True):
    kind: str
    name: str
    controller: bool = False


class PodMetadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()


class PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""


class LabelledPod(msgspec.Struct, frozen=True):
    """What is read of a pod; its containers, and what stands in their environment, are not."""

    metadata: PodMetadata
    status: PodStatus = PodStatus()


PodsByName = Mapping[tuple[str, str], LabelledPod]
"""By (namespace, name)."""


class PodDeviceLister(Protocol):
    """`producers.bindings.kubernetes.kubelet.PodResources`."""

    def devices(self) -> Sequence[PodDevice]: ...


class PodLister(Protocol):
    """`producers.bindings.kubernetes.api_server.ApiServer`."""

    def pods(self) -> PodsByName: ...


class KubernetesBindings:
    """See the module. Labels are asked for when a pod is not known, when two claim one device, and every LABELS_MS.
    While the API server does not answer, what it said last is good for `keep_ms`."""

    name = NAME

    def __init__(
        self, kubelet: PodDeviceLister, api: PodLister, labels: PodLabelNames, *, keep_ms: int,
        tenant_from: Literal["label", "namespace"] = "label",
    ) -> None:  # fmt: skip
        self._kubelet, self._api, self._labels, self._keep_ms = kubelet, api, labels, keep_ms
        self._tenant_from = tenant_from
        self._pods: PodsByName = {}
        self._read_ms: int | None = None

    def read(self, topology: Boards, now_ms: int) -> ClaimReport:
        devices = self._kubelet.devices()
        odd: list[BindingWarning] = []
        if devices and self._must_ask(devices, now_ms):
            try:
                self._pods, self._read_ms = self._api.pods(), now_ms
            except WattlogError as error:
                odd.append(BindingWarning("unknown_holder", f"labels of pods cannot be read: {error}"))
                if self._read_ms is None or now_ms - self._read_ms > self._keep_ms:
                    self._pods = {}
        found = claims(devices, self._pods, self._labels, self._tenant_from)
        return ClaimReport(found.claims, (*odd, *found.oddities))

    def _must_ask(self, devices: Sequence[PodDevice], now_ms: int) -> bool:
        if self._read_ms is None or now_ms - self._read_ms >= LABELS_MS:
            return True
        holders: dict[str, tuple[str, str]] = {}
        for d in devices:
            pod = (d.namespace, d.pod)
            if pod not in self._pods or holders.setdefault(d.device, pod) != pod:
                return True
        return False


def claims(
    devices: Iterable[PodDevice], pods: PodsByName, labels: PodLabelNames, tenant_from: str = "label"
) -> ClaimReport:
    """The claims of containers, by what is known of their pods."""
    found: list[DeviceClaim] = []
    odd: dict[BindingWarning, None] = {}
    for d in devices:
        device, _, replica = d.device.partition("::")
        pod = pods.get((d.namespace, d.pod))
        if pod is None:
            odd[
                BindingWarning("unknown_holder", f"{d.namespace}/{d.pod} holds {d.device}, and nothing is known of it")
            ] = None
            found.append(DeviceClaim(device, None, replica))
        elif pod.status.phase not in _ENDED:
            holder, wrong = _holder(d, pod, labels, tenant_from)
            odd.update(dict.fromkeys(wrong))
            found.append(DeviceClaim(device, holder, replica))
    return ClaimReport(found, tuple(odd))


def _holder(
    d: PodDevice, pod: LabelledPod, labels: PodLabelNames, tenant_from: str
) -> tuple[WorkloadHolder, list[BindingWarning]]:
    said, odd = pod.metadata.labels, list[BindingWarning]()
    where = f"{d.namespace}/{d.pod}"
    workload, rule = said.get(labels.workload, ""), "label"
    if workload and (fault := workload_fault(workload)):
        odd.append(
            BindingWarning("bad_name", f"{where}: the label {labels.workload} is {printable(workload)!r}: {fault}")
        )
        workload = ""
    if not workload:
        name, rule = controller_name(pod)
        workload = printable(f"{d.namespace}/{name}")
        odd.append(
            BindingWarning(
                "no_label", f"{where} has no label {labels.workload} to use: called {workload}, by its {rule}"
            )
        )
    tenant = d.namespace if tenant_from == "namespace" else said.get(labels.tenant, "")
    if tenant and (fault := tenant_fault(tenant)):
        odd.append(BindingWarning("bad_name", f"{where}: the tenant {printable(tenant)!r} cannot be used: {fault}"))
        tenant = ""
    elif not tenant:
        odd.append(BindingWarning("no_tenant", f"{where} has no label {labels.tenant}: nobody pays when it is idle"))
    team, cost_centre, model = (said.get(n, "") for n in (labels.team, labels.cost_centre, labels.model))
    return WorkloadHolder(
        workload, tenant, NAME, d.namespace, d.pod, d.container, team, cost_centre, model, rule
    ), odd  # fmt: skip


def controller_name(pod: LabelledPod) -> tuple[str, str]:
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
