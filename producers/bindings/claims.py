"""Types of bindings: boards, claims on devices, their holders, and warnings. Pure.

A claim is what a source (the kubelet, a process, the settings) reports. `producers.bindings.resolution` turns claims
into the shares of each GPU. A claim that cannot be believed is never replaced by a silent guess: it is a
`BindingWarning`, which is counted and logged, and that part of the GPU is unallocated until the cause is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts import topics
from contracts.errors import BadInput, Unavailable
from producers.bindings.apportion import Binding, BindingShare
from producers.common.printable import printable

WARNING_KINDS = {
    "unknown_device": "a device is claimed that the sensor does not see",
    "conflict": "two workloads claim a device that only one can hold",
    "unknown_holder": "a device is held by a pod or process of which no workload is known",
    "no_label": "a pod has no workload label: its controller's name is used",
    "no_tenant": "a holder has no tenant: nobody pays when it is idle",
    "bad_name": "a workload or tenant has a name that cannot be used",
    "unverified": "a process names its own job, and nothing verifies it",
}
"""Meaning of the kinds of `BindingWarning`, which are labels of metrics."""

HARMLESS_KINDS = ("no_label", "no_tenant")
"""Kinds of warnings in spite of which a GPU is bound."""


class SourceAbsent(Unavailable):
    """This node has no such source: no kubelet, no such control groups."""


class BindingWarning(NamedTuple):
    """Fact about bindings that a person should look at: a kind of WARNING_KINDS, and a sentence."""

    kind: str
    message: str


@dataclass(slots=True, frozen=True)
class WorkloadHolder:
    """Workload that holds a device, and all that is known of it. `rule` is how its name was determined."""

    workload: str
    tenant: str = ""
    source: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    team: str = ""
    cost_centre: str = ""
    model: str = ""
    rule: str = ""

    @property
    def about(self) -> tuple[tuple[str, str], ...]:
        """Description for the record, beside workload and tenant."""
        names = ("source", "namespace", "pod", "container", "team", "cost_centre", "model", "rule")
        return tuple((name, printable(value)) for name in names if (value := getattr(self, name)))

    def share(self, weight: int = 1) -> BindingShare:
        """Return this holder's share of a GPU."""
        return BindingShare(Binding(self.workload, self.tenant), weight, self.about)


class DeviceClaim(NamedTuple):
    """Holder of a device, which is a GPU's or a MIG instance's UUID.

    Several workloads hold one device by different `replica`s; two claims of one replica must be the same workload's.
    Without a holder, the device is in use and its workload is unknown.
    """

    device: str
    holder: WorkloadHolder | None
    replica: str = ""


class ClaimReport(NamedTuple):
    """Claims and warnings of one source, and the pieces of its input that it refused."""

    claims: Sequence[DeviceClaim] = ()
    warnings: Sequence[BindingWarning] = ()
    refused: Sequence[str] = ()


@dataclass(slots=True, frozen=True)
class GpuBoard:
    """GPU with its MIG instances and the compute slices of each. `slices` is the board's number, 1 without MIG.

    `names` are (name, device) of other names that the board and its instances have: `0`, `nvidia0`, `nvidia0/gi1`.
    """

    uuid: str
    slices: int = 1
    instances: tuple[tuple[str, int], ...] = ()
    names: tuple[tuple[str, str], ...] = ()


Boards = Sequence[GpuBoard]


def board_of_device(boards: Boards) -> dict[str, str]:
    """Return the board of each device that can be claimed: of the board itself, and of its instances."""
    return {uuid: b.uuid for b in boards for uuid in (b.uuid, *(instance for instance, _ in b.instances))}


def device_of_name(boards: Boards) -> dict[str, str]:
    """Return the device of each other name, without names that several devices have."""
    devices: dict[str, set[str]] = {}
    for board in boards:
        for name, device in board.names:
            devices.setdefault(name, set()).add(device)
    return {name: min(named) for name, named in devices.items() if len(named) == 1}


def workload_fault(name: str) -> str:
    """Return why a workload cannot have this name, "" if it can."""
    return _fault("workload", name) or ("'~' marks unallocated GPUs" if topics.is_unallocated(name) else "")


def tenant_fault(name: str) -> str:
    """Return why a tenant cannot have this name, "" if it can."""
    return _fault("tenant", name) or ("names that begin with '__' are Wattlog's own" if name.startswith("__") else "")


def _fault(field: str, name: str) -> str:
    try:
        topics.check_name(field, name)
    except BadInput as error:
        return error.fix
    return ""
