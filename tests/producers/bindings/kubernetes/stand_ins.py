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


def serving_pod(
    name: str, ip: str = "10.0.0.1", *, namespace: str = "llm", uid: str = "", labels: Mapping[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z", started: str = "2026-01-01T00:00:05Z", ready: bool = True,
    phase: str = "Running", ports: Mapping[str, int] | None = None, deleted: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A pod of one container in the API server's form, with a secret that must not be read."""
    declared = [{"name": n, "containerPort": p, "protocol": "TCP"} for n, p in (ports or {"http": 8000}).items()]
    env = [{"name": "API_KEY", "value": "secret"}]
    return {
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid or name, "labels": dict(labels or {"app": "vllm"}),
            "creationTimestamp": created, "deletionTimestamp": deleted,
        },
        "spec": {"containers": [{"name": "vllm", "ports": declared, "env": env}], "nodeName": "n1"},
        "status": {
            "phase": phase, "podIP": ip, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": [{"name": "vllm", "restartCount": 0, "state": {"running": {"startedAt": started}}}],
        },
    }  # fmt: skip


MANY = 10**9


class FakeWatchedApi:
    """An API server with pods that come and go: it lists them, and answers a watch with the events since a version.

    A watch without news ends after a moment. `compacted` is the version up to which events are forgotten.
    """

    def __init__(self) -> None:
        self.url, self.compacted, self.fails = "", 0, False
        self.part, self.is_null = MANY, False
        """Pods of one part of a list; whether an empty list is null."""
        self.queries: list[dict[str, list[str]]] = []
        self.service: dict[str, str] = {}
        self._pods: dict[str, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def put(self, pod: dict[str, Any]) -> None:
        """Add a pod, or change it."""
        with self._changed:
            kind = "MODIFIED" if pod["metadata"]["uid"] in self._pods else "ADDED"
            self._pods[pod["metadata"]["uid"]] = pod
            self._append(kind, pod)

    def delete(self, uid: str) -> None:
        """Delete a pod."""
        with self._changed:
            self._append("DELETED", self._pods.pop(uid))

    def _append(self, kind: str, pod: dict[str, Any]) -> None:
        version = str(len(self._events) + 1)
        versioned = pod | {"metadata": pod["metadata"] | {"resourceVersion": version}}
        self._events.append({"type": kind, "object": versioned})
        self._changed.notify_all()

    def _list(self, request: Request) -> dict[str, Any]:
        assert not {"continue", "resourceVersion"} <= request.query.keys()
        begin = int(request.query.get("continue", ["0"])[0])
        end = begin + self.part
        items = list(self._pods.values())[begin:end]
        next_part = {"continue": str(end)} if end < len(self._pods) else {}
        return {"items": None if self.is_null and not items else items,
                "metadata": {"resourceVersion": str(len(self._events)), **next_part}}  # fmt: skip

    def bookmark(self) -> None:
        """Send a bookmark: a version without a pod."""
        with self._changed:
            self._append("BOOKMARK", {"kind": "Pod", "metadata": {}})

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        with self._changed:
            self.queries.append(dict(request.query))
            if self.fails:
                return Response(503, b"")
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return Response(401, b"")
            if "/services/" in request.path:
                return Response(200, json.dumps({"kind": "Service", "spec": {"selector": self.service}}).encode())
            if "watch" not in request.query:
                return Response(200, json.dumps(self._list(request)).encode())
            since = int(request.query["resourceVersion"][0])
            if since < self.compacted:
                gone = {"type": "ERROR", "object": {"kind": "Status", "code": 410}}
                return Response(200, json.dumps(gone).encode() + b"\n")
            self._changed.wait_for(lambda: len(self._events) > since, 0.05)
            return Response(200, b"".join(json.dumps(event).encode() + b"\n" for event in self._events[since:]))


@contextmanager
def watched_api() -> Iterator[FakeWatchedApi]:
    fake = FakeWatchedApi()
    with serving(fake.answer) as fake.url:
        yield fake
