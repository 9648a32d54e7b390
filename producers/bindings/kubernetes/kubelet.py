"""Client of the kubelet's pod-resources API over its unix socket: which container has which device.

grpcio is the reference implementation of the protocol. It answers within a deadline, whatever the other side does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from contracts.errors import Unavailable
from producers.bindings.claims import SourceAbsent
from producers.bindings.kubernetes.pods import PodDevice

TIMEOUT_S = 2.0
MAX_BYTES = 16 * 2**20
"""The limit of the kubelet's own client."""
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
)
_UUID = re.compile(r"\b[A-Z]+-[0-9a-f-]{36}")
"""A device's UUID with its kind before it (GPU-..., MIG-...). A bare UUID may be the claim's own."""
_HINT = "May this process use its socket (root's by default), and is the kubelet well?"


class KubeletPodResources:
    """Lists devices through `socket` whose resource, or driver, matches one of `resources` (patterns with `*`)."""

    def __init__(self, socket: Path, resources: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> None:
        self._socket, self._resources, self._timeout_s = socket, resources, timeout_s

    def devices(self) -> list[PodDevice]:
        """Return every GPU device of a container. Raises SourceAbsent without a socket, else Unavailable."""
        try:
            import grpc

            from producers.bindings.kubernetes import podresources as messages
        except ImportError:
            raise Unavailable("The package grpcio is not installed", "Run `pip install 'wattlog[agent]'`.") from None
        try:
            exists = self._socket.exists()
        except OSError as error:
            raise Unavailable(f"The kubelet's {self._socket} is out of reach: {error}", _HINT) from None
        if not exists:
            raise SourceAbsent(f"There is no {self._socket}", "Is this a Kubernetes node, and the socket mounted?")
        try:
            with grpc.insecure_channel(f"unix:{self._socket}", options=_OPTIONS) as channel:
                list_resources = channel.unary_unary(
                    messages.LIST,
                    request_serializer=messages.ListPodResourcesRequest.SerializeToString,
                    response_deserializer=messages.ListPodResourcesResponse.FromString,
                )
                response = list_resources(messages.ListPodResourcesRequest(), timeout=self._timeout_s)
                return list(self._devices(response))
        except grpc.RpcError as error:
            code = error.code().name if isinstance(error, grpc.Call) else type(error).__name__
            details = (error.details() or "") if isinstance(error, grpc.Call) else ""
            raise Unavailable(f"The kubelet does not list pods' devices: {code} {details[:200]}", _HINT) from None

    def _devices(self, response: Any) -> Iterator[PodDevice]:
        for pod in response.pod_resources:
            for container in pod.containers:
                owner = pod.namespace, pod.name, container.name
                for device in container.devices:
                    if self._is_gpu(device.resource_name):
                        yield from (PodDevice(*owner, device_id) for device_id in device.device_ids)
                for claim in (c for dynamic in container.dynamic_resources for c in dynamic.claim_resources):
                    if self._is_gpu(claim.driver_name):
                        yield PodDevice(*owner, _claimed_device(claim))

    def _is_gpu(self, resource: str) -> bool:
        return any(fnmatchcase(resource, pattern) for pattern in self._resources)


def _claimed_device(claim: Any) -> str:
    """Return the UUID in a claim's CDI devices, else the driver's name of the device.

    The latter is no GPU's UUID, so it is reported as unknown.
    """
    names = " ".join((*(device.name for device in claim.cdi_devices), claim.device_name))
    uuid = _UUID.search(names)
    return uuid[0] if uuid else f"{claim.driver_name}/{claim.device_name}"
