"""The words of bindings: who claims which device, and what is odd about it. Pure.

A claim says what a source (the kubelet, a process, the settings) says; `producers.bindings.assignment` makes of
claims who holds which GPU. What cannot be believed is never replaced by a guess in silence: it is an `Oddity`, which
is counted and told, and the part of the GPU is nobody's until it is mended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from contracts import topics
from contracts.errors import BadInput, Unavailable
from producers.bindings.apportion import Binding, BindingShare

WARNING_KINDS = {
    "unknown_device": "a device is claimed that the sensor does not see",
    "conflict": "two workloads claim a device that only one can hold",
    "unknown_holder": "a device is held by a pod or process of which no workload is known",
    "no_label": "a pod has no workload label: its controller's name is used",
    "no_tenant": "a holder has no tenant: when it is idle nobody pays",
    "bad_name": "a workload or tenant has a name that cannot be used",
    "unverified": "a process says which job it belongs to, and nothing vouches for that",
}
"""What may be odd: the `kind` of `Oddity`, and its label in metrics."""

HARMLESS_KINDS = ("no_label", "no_tenant")
"""With these a GPU is bound nevertheless."""


class SourceAbsent(Unavailable):
    """A source is not there at all: this node has no kubelet, no such cgroups."""


class BindingWarning(NamedTuple):
    """Something that a person should look at: a kind of ODDITIES, and a sentence."""

    kind: str
    says: str


@dataclass(slots=True, frozen=True)
class WorkloadHolder:
    """A workload that holds a device, and all that is known of it. `rule` says how its name was found."""

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
        """What goes on record beside workload and tenant."""
        names = ("source", "namespace", "pod", "container", "team", "cost_centre", "model", "rule")
        return tuple((name, printable(value)) for name in names if (value := getattr(self, name)))

    def share(self, weight: int = 1) -> BindingShare:
        return BindingShare(Binding(self.workload, self.tenant), weight, self.about)


class DeviceClaim(NamedTuple):
    """A holder of a device: a GPU's or MIG instance's UUID. Several hold one device by different `replica`s; two claims
    of one replica must be the same workload's. Without a holder it is taken by somebody of whom no workload is known.
    """

    device: str
    holder: WorkloadHolder | None
    replica: str = ""


class ClaimReport(NamedTuple):
    """What a source said."""

    claims: Sequence[DeviceClaim] = ()
    oddities: Sequence[BindingWarning] = ()


@dataclass(slots=True, frozen=True)
class GpuBoard:
    """A GPU: its MIG instances with the compute slices of each, and how many slices the board has (1 without MIG)."""

    uuid: str
    slices: int = 1
    instances: tuple[tuple[str, int], ...] = ()


Boards = Sequence[GpuBoard]


def board_of_device(topology: Boards) -> dict[str, str]:
    """The board of each device that can be claimed: itself, and its instances."""
    return {uuid: b.uuid for b in topology for uuid in (b.uuid, *(instance for instance, _ in b.instances))}


def workload_fault(name: str) -> str:
    """Why a workload cannot bear this name; "" where it can."""
    return _fault("workload", name) or ("'~' marks what nobody holds" if topics.is_unallocated(name) else "")


def tenant_fault(name: str) -> str:
    """Why a tenant cannot bear this name; "" where it can."""
    return _fault("tenant", name) or ("names that begin with '__' are Wattlog's own" if name.startswith("__") else "")


def printable(value: str) -> str:
    """What is told beside names, as the log takes it: printable, of at most 253 characters."""
    return "".join(c if c.isprintable() else "?" for c in value[:253])


def _fault(field: str, name: str) -> str:
    try:
        topics.check_name(field, name)
    except BadInput as error:
        return error.fix
    return ""
