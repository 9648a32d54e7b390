"""Pod that serves: the part of it that is read to find its page, and when its counters began."""

from __future__ import annotations

from datetime import datetime

import msgspec

from contracts.errors import BadInput
from producers.bindings.kubernetes.pods import LabelledPod, PodMetadata, PodStatus
from producers.common.printable import printable


class ServingMetadata(PodMetadata, frozen=True, rename="camel"):
    """Names, labels and times of a pod."""

    uid: str = ""
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class ContainerPort(msgspec.Struct, frozen=True, rename="camel"):
    """Port that a container declares."""

    container_port: int
    name: str = ""


class ContainerSpec(msgspec.Struct, frozen=True):
    """Part of a container that is read. Its environment is not."""

    name: str = ""
    ports: tuple[ContainerPort, ...] = ()


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """Containers of a pod."""

    containers: tuple[ContainerSpec, ...] = ()


class RunningState(msgspec.Struct, frozen=True, rename="camel"):
    """Start of a container's present run."""

    started_at: datetime | None = None


class ContainerState(msgspec.Struct, frozen=True):
    """State of a container, None where it does not run."""

    running: RunningState | None = None


class ContainerStatus(msgspec.Struct, frozen=True):
    """State of a container by its name."""

    name: str = ""
    state: ContainerState = ContainerState()


class PodCondition(msgspec.Struct, frozen=True):
    """Condition of a pod, such as Ready."""

    type: str
    status: str = ""


class ServingStatus(PodStatus, frozen=True, rename={"pod_ip": "podIP", "container_statuses": "containerStatuses"}):
    """Phase, address and containers of a pod."""

    pod_ip: str = ""
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class ServingPod(LabelledPod, frozen=True):
    """Part of a pod that is read."""

    metadata: ServingMetadata
    status: ServingStatus = ServingStatus()
    spec: PodSpec = PodSpec()

    @property
    def place(self) -> str:
        """Namespace and name, for people."""
        return printable(f"{self.metadata.namespace}/{self.metadata.name}")

    @property
    def is_ready(self) -> bool:
        """True if the pod says that it can be reached."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def created_ms(self) -> int | None:
        """Time of its creation in epoch ms."""
        return _epoch_ms(self.metadata.creation_timestamp)

    @property
    def holds_address(self) -> tuple[bool, int]:
        """Rank of its claim on its address: the greatest of the pods that name one address has it. One that is to be
        deleted may have given it up already."""
        return self.metadata.deletion_timestamp is None, self.created_ms or 0

    def port(self, port: int | str) -> int:
        """Return the number of a port. Raises BadInput for a name that no container declares."""
        if isinstance(port, int):
            return port
        declared = [p for container in self.spec.containers for p in container.ports]
        number = next((p.container_port for p in declared if p.name == port), None)
        if number is None:
            names = ", ".join(p.name or str(p.container_port) for p in declared) or "none"
            raise BadInput("port", port, f"{self.place} declares no such port: there are {names}")
        return number

    def started_ms(self, port: int) -> int | None:
        """Return when the container with a port, or the only one, began its present run; None where that is unknown."""
        state = self._state(port)
        return _epoch_ms(state.running.started_at) if state and state.running else None

    def is_stopped(self, port: int) -> bool:
        """Return whether the container with a port is known not to run: then another pod may have its address."""
        state = self._state(port)
        return state is not None and state.running is None

    def _state(self, port: int) -> ContainerState | None:
        names = [c.name for c in self.spec.containers if any(p.container_port == port for p in c.ports)]
        if not names and len(self.spec.containers) == 1:
            names = [self.spec.containers[0].name]
        return next((s.state for s in self.status.container_statuses if names and s.name == names[0]), None)


def _epoch_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
