"""Stand-ins for a node's kubelet and for the API server: a real gRPC server on a unix socket, a real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from producers.bindings.kubernetes.podresources import ListPodResourcesRequest, ListPodResourcesResponse
from tests.support.http_server import Request, Response, serving
from tests.support.waiting import HANG_S

TOKEN = "a-token-that-nobody-may-see"
Devices = Mapping[str, Sequence[str]]
"""Device ids by resource."""


def resources(*pods: tuple[str, str, Mapping[str, Devices]], claims: Sequence[dict[str, Any]] = ()) -> Any:
    """A kubelet's answer: pods as (namespace, name, devices by container)."""
    answer = ListPodResourcesResponse()
    for namespace, name, containers in pods:
        pod = answer.pod_resources.add(name=name, namespace=namespace)
        for container, devices in containers.items():
            entry = pod.containers.add(name=container)
            for resource, ids in devices.items():
                entry.devices.add(resource_name=resource, device_ids=ids)
    for claim in claims:
        pod = answer.pod_resources.add(name=claim["pod"], namespace="serving")
        claimed = (
            pod.containers.add(name="main")
            .dynamic_resources.add(claim_name="c")
            .claim_resources.add(driver_name="gpu.nvidia.com", device_name="gpu-0")
        )
        claimed.cdi_devices.add(name=claim["cdi"])
    return answer


class FakeKubelet:
    """A kubelet with a set answer; it may hang (until `let_go`), and counts its calls."""

    def __init__(self, socket: Path) -> None:
        self.socket, self.answer, self.calls = socket, resources(), 0
        self.refuses: grpc.StatusCode | None = None
        self.hangs = False
        self.raw: bytes | None = None
        """Bytes to answer instead."""
        self.let_go = threading.Event()

    def list(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls += 1
        if self.refuses is not None:
            context.abort(self.refuses, "not today")
        if self.hangs:
            self.let_go.wait(HANG_S)
        return self.answer


@contextmanager
def kubelet(socket: Path) -> Iterator[FakeKubelet]:
    fake = FakeKubelet(socket)
    server = grpc.server(ThreadPoolExecutor(4))
    method = grpc.unary_unary_rpc_method_handler(
        fake.list,
        ListPodResourcesRequest.FromString,
        lambda answer: ListPodResourcesResponse.SerializeToString(answer) if fake.raw is None else fake.raw,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method}),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield fake
    finally:
        fake.let_go.set()
        server.stop(None).wait(HANG_S)


def pod(
    namespace: str, name: str, labels: Mapping[str, str] | None = None, made_by: tuple[str, str] | None = None,
    phase: str = "Running",
) -> dict[str, Any]:  # fmt: skip
    """A pod in the API server's form, with fields that must not be read."""
    owners = [{"kind": made_by[0], "name": made_by[1], "controller": True, "uid": "u"}] if made_by else []
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {}), "ownerReferences": owners},
        "spec": {"containers": [{"name": "main", "env": [{"name": "API_KEY", "value": "secret"}]}]},
        "status": {"phase": phase, "podIP": "10.0.0.9"},
    }


class FakeApi:
    """Pods of nodes; a token is required. `status` replaces the answer, `hangs` delays it."""

    def __init__(self) -> None:
        self.pods: dict[str, list[dict[str, Any]]] = {}
        self.status, self.calls, self.hangs = 200, 0, False
        self.let_go = threading.Event()
        self.url = ""
        self.body: Callable[[bytes], bytes] = lambda body: body


@contextmanager
def api() -> Iterator[FakeApi]:
    fake = FakeApi()

    def answer(request: Request) -> Response:
        fake.calls += 1
        if fake.hangs:
            fake.let_go.wait(HANG_S)
        status = fake.status
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            status = 401
        elif request.path != "/api/v1/pods":
            status = 404
        node = request.query.get("fieldSelector", [""])[0].removeprefix("spec.nodeName=")
        return Response(status, fake.body(json.dumps({"kind": "PodList", "items": fake.pods.get(node, [])}).encode()))

    try:
        with serving(answer) as fake.url:
            yield fake
    finally:
        fake.let_go.set()
