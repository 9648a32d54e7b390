"""Binding source for Kubernetes pods: the kubelet gives the devices of each container, the API server the labels.

Devices are named by device plugins (`producers.bindings.kubernetes.device_ids`). With dynamic resource allocation a
container has CDI devices. Those that name a UUID are identified; others are reported as unknown.

HAMi's scheduler gives a pod other GPUs than the kubelet's ids say (https://github.com/Project-HAMi/HAMi/issues/1741),
and notes them in the pod's annotation. Of a pod with ids of HAMi's form, the annotation counts.

The kubelet is believed on which pod has which device, the API server on what the pod is. A pod that has ended holds
nothing, though the kubelet may go on to list it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

import msgspec

from producers.bindings.claims import (
    BindingWarning,
    Boards,
    ClaimReport,
    DeviceClaim,
    WorkloadHolder,
    board_of_device,
    device_of_name,
    tenant_fault,
    workload_fault,
)
from producers.bindings.config import PodLabelNames
from producers.bindings.kubernetes.device_ids import resolve_id
from producers.common.printable import printable
from producers.runtime.refusals import read_each, refusal, shorten

NAME = "kubernetes"
LABELS_MS = 60_000
"""Time for which labels are good, unless an unknown pod appears."""
_ENDED = ("Succeeded", "Failed")
_CRON = re.compile(r"-\d{8,10}$")
"""Suffix of a CronJob's jobs: minutes since 1970."""
_GPU_UUID = re.compile(r"\bGPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HAMI_ID = re.compile(_GPU_UUID.pattern + r"-\d{1,4}")


class PodDevice(NamedTuple):
    """A device of a container."""

    namespace: str
    pod: str
    container: str
    device: str

    @property
    def place(self) -> str:
        """Namespace and pod, for people."""
        return printable(f"{self.namespace}/{self.pod}")


class OwnerReference(msgspec.Struct, frozen=True):
    """Object that made a pod."""

    kind: str
    name: str
    controller: bool = False


class PodAnnotations(msgspec.Struct, frozen=True):
    """Annotation of a pod that is read; the others are not."""

    hami: str = msgspec.field(default="", name="hami.io/vgpu-devices-allocated")


class PodMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """Names, labels and annotations of a pod."""

    name: str
    namespace: str
    labels: dict[str, str] = {}
    annotations: PodAnnotations = PodAnnotations()
    owner_references: tuple[OwnerReference, ...] = ()


class PodStatus(msgspec.Struct, frozen=True):
    """Phase of a pod."""

    phase: str = ""


class LabelledPod(msgspec.Struct, frozen=True):
    """Part of a pod that is read. Its containers and their environment are not."""

    metadata: PodMetadata
    status: PodStatus = PodStatus()


PodsByName = Mapping[tuple[str, str], LabelledPod]
"""Pods by (namespace, name)."""


class PodListing(NamedTuple):
    """Pods of a node, and why each malformed one was left out."""

    pods: PodsByName
    refused: Sequence[str] = ()


class PodDeviceLister(Protocol):
    """Devices of this node's containers: `producers.bindings.kubernetes.kubelet.KubeletPodResources`."""

    def devices(self) -> Sequence[PodDevice]: ...


class PodLister(Protocol):
    """Pods of this node: `producers.bindings.kubernetes.api_server.ApiServer`."""

    def pods(self) -> PodListing: ...


class KubernetesBindings:
    """Claims of this node's containers.

    Labels are read when a pod is unknown, when two pods claim one device, and every LABELS_MS. While the API server
    does not answer, its last answer is good for `keep_ms`.
    """

    name = NAME

    def __init__(
        self, kubelet: PodDeviceLister, api: PodLister, labels: PodLabelNames, *, keep_ms: int,
        tenant_from: Literal["label", "namespace"] = "label",
    ) -> None:  # fmt: skip
        self._kubelet, self._api, self._labels, self._keep_ms = kubelet, api, labels, keep_ms
        self._tenant_from = tenant_from
        self._listing = PodListing({})
        self._read_ms: int | None = None

    def read(self, boards: Boards, now_ms: int) -> ClaimReport:
        devices = self._kubelet.devices()
        warnings: list[BindingWarning] = []
        refused: list[str] = []
        if devices and self._must_list_pods(devices, now_ms):
            try:
                self._listing, self._read_ms = self._api.pods(), now_ms
                refused += self._listing.refused
            except Exception as error:
                refused.append(refusal(error, "labels of pods"))
                warnings.append(BindingWarning("unknown_holder", f"labels of pods cannot be read: {shorten(error)}"))
                if self._read_ms is None or now_ms - self._read_ms > self._keep_ms:
                    self._listing = PodListing({})
        if malformed := self._listing.refused:
            message = f"{len(malformed)} pods of the API server are malformed, such as {malformed[0]}"
            warnings.append(BindingWarning("unknown_holder", message))
        report = claims(devices, self._listing.pods, self._labels, self._tenant_from, boards)
        return ClaimReport(report.claims, (*warnings, *report.warnings), (*refused, *report.refused))

    def _must_list_pods(self, devices: Sequence[PodDevice], now_ms: int) -> bool:
        if self._read_ms is None or now_ms - self._read_ms >= LABELS_MS:
            return True
        pod_of_device: dict[str, tuple[str, str]] = {}
        for d in devices:
            pod = (d.namespace, d.pod)
            if pod not in self._listing.pods or pod_of_device.setdefault(d.device, pod) != pod:
                return True
        return False


def claims(
    devices: Iterable[PodDevice], pods: PodsByName, labels: PodLabelNames, tenant_from: str = "label",
    boards: Boards = (),
) -> ClaimReport:  # fmt: skip
    """Return the claims of containers on these boards, by the labels of their pods."""
    result: list[DeviceClaim] = []
    uuids, names = board_of_device(boards), device_of_name(boards)
    warnings: dict[BindingWarning, None] = {}
    refused: list[str] = []

    def add(d: PodDevice) -> None:
        device, replica = resolve_id(d.device, uuids, names)
        pod = pods.get((d.namespace, d.pod))
        if pod is None:
            message = f"{d.place} holds {printable(d.device)}, and nothing is known of it"
            warnings[BindingWarning("unknown_holder", message)] = None
            result.append(DeviceClaim(device, None, replica))
        elif pod.status.phase not in _ENDED:
            holder, holder_warnings = holder_of(d, pod, labels, tenant_from)
            warnings.update(dict.fromkeys(holder_warnings))
            is_hami = _HAMI_ID.fullmatch(d.device) and d.device not in uuids
            allocated = dict.fromkeys(_GPU_UUID.findall(pod.metadata.annotations.hami)) if is_hami else {}
            if allocated:  # Each of its GPUs once, however many shares of it the pod has.
                holder = replace(holder, container="")
                result.extend(DeviceClaim(uuid, holder, d.place) for uuid in allocated)
            else:
                result.append(DeviceClaim(device, holder, replica))

    for _ in read_each(((f"a device of {d.place}", d) for d in devices), add, refused):
        pass
    return ClaimReport(list(dict.fromkeys(result)), tuple(warnings), tuple(refused))


def holder_of(
    d: PodDevice, pod: LabelledPod, names: PodLabelNames, tenant_from: str
) -> tuple[WorkloadHolder, list[BindingWarning]]:
    """Return the workload and the tenant of a pod, by its labels, and warnings where those cannot be used."""
    labels, warnings = pod.metadata.labels, list[BindingWarning]()
    workload, rule = labels.get(names.workload, ""), "label"
    if workload and (fault := workload_fault(workload)):
        message = f"{d.place}: the label {names.workload} is {printable(workload)!r}: {fault}"
        warnings.append(BindingWarning("bad_name", message))
        workload = ""
    if not workload:
        name, rule = controller_name(pod)
        workload = printable(f"{d.namespace}/{name}")
        message = f"{d.place} has no label {names.workload} to use: called {workload}, by its {printable(rule)}"
        warnings.append(BindingWarning("no_label", message))
    tenant = d.namespace if tenant_from == "namespace" else labels.get(names.tenant, "")
    if tenant and (fault := tenant_fault(tenant)):
        message = f"{d.place}: the tenant {printable(tenant)!r} cannot be used: {fault}"
        warnings.append(BindingWarning("bad_name", message))
        tenant = ""
    elif not tenant:
        message = f"{d.place} has no label {names.tenant}: nobody pays when it is idle"
        warnings.append(BindingWarning("no_tenant", message))
    holder = WorkloadHolder(
        workload=workload, tenant=tenant, source=NAME, namespace=d.namespace, pod=d.pod, container=d.container,
        team=labels.get(names.team, ""), cost_centre=labels.get(names.cost_centre, ""),
        model=labels.get(names.model, ""), rule=rule,
    )  # fmt: skip
    return holder, warnings


def controller_name(pod: LabelledPod) -> tuple[str, str]:
    """Return the name and kind of the object that made a pod.

    A Deployment's is without its ReplicaSet's hash, a CronJob's without the time; others' are unchanged. A pod that
    nothing made has its own name.
    """
    owner = next((o for o in pod.metadata.owner_references if o.controller), None)
    if owner is None:
        return pod.metadata.name, "pod"
    name, kind = owner.name, owner.kind
    template_hash = pod.metadata.labels.get("pod-template-hash", "")
    if kind == "ReplicaSet" and template_hash and name.endswith(f"-{template_hash}"):
        return name.removesuffix(f"-{template_hash}"), "Deployment"
    if kind == "Job" and (suffix := _CRON.search(name)):
        return name[: suffix.start()], "CronJob"
    return name, kind
