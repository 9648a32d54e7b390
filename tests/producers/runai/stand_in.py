"""A stand-in for Run:ai's API, after its reference, with configurable faults.

All requests go to `answer`, through httpx's MockTransport or over real sockets (`listening`).
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import httpx

from tests.producers.runtime.test_agent import T0
from tests.support.http_server import Request, Response, serving

CLUSTER = "71f69d83-ba66-4822-adf5-55ce55efd210"
MINUTE_MS = 60_000
START = T0 - T0 % MINUTE_MS
"""A whole minute: the first window begins here."""
SECRET = "s3cret-of-the-app"


def when(t_ms: int) -> str:
    return datetime.fromtimestamp(t_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class ApiRequest:
    """A request to the API."""

    method: str
    path: str
    params: dict[str, str]
    token: str = ""
    body: dict[str, str] = field(default_factory=dict)

    @property
    def about_metrics(self) -> bool:
        return self.path.endswith("/metrics")


class Reply(NamedTuple):
    status: int
    body: Any = None
    headers: Mapping[str, str] = {}
    slow: bool = False


@dataclass
class ApiObject:
    """A workload, or a pod of one."""

    id: str
    name: str
    born_ms: int = 0
    end_ms: int | None = None
    deleted_ms: int | None = None
    phase: str = "Running"
    phase_ms: int = 0
    project: str = "proj-1"
    department: str = "dep-1"
    cluster: str = CLUSTER
    workload: str = ""
    gpus: int = 2

    def as_workload(self) -> dict[str, Any]:
        return {
            "tenantId": 1001, "type": "Training", "namespace": f"runai-{self.project}", "name": self.name,
            "id": self.id, "clusterId": self.cluster, "projectName": self.project, "projectId": "1",
            "departmentName": self.department, "departmentId": "1", "phase": self.phase, "runningPods": 1,
            "phaseUpdatedAt": when(self.phase_ms), "createdAt": when(self.born_ms),
            "completedAt": None if self.end_ms is None else when(self.end_ms),
            "deletedAt": None if self.deleted_ms is None else when(self.deleted_ms), "command": "sleep",
        }  # fmt: skip

    def as_pod(self) -> dict[str, Any]:
        return {
            "name": self.name, "id": self.id, "workloadId": self.workload, "clusterId": self.cluster,
            "nodeName": "node-1", "createdAt": when(self.born_ms), "k8sPhase": "Running",
            "completedAt": None if self.end_ms is None else when(self.end_ms),
            "deletedAt": None if self.deleted_ms is None else when(self.deleted_ms),
            "workloadName": "of-the-pod", "projectName": self.project,
        }  # fmt: skip


Fault = Callable[[ApiRequest], Reply | None]
"""The reply that replaces the proper answer; None: no fault."""


class FakeRunAi:
    """Workloads, pods and metrics behind the API. `value` gives the value of a metric; None: no measurement."""

    def __init__(self, workloads: int = 1) -> None:
        self.workloads = {f"w{n}": ApiObject(f"w{n}", f"job-{n}", born_ms=START - 10**7 + n) for n in range(workloads)}
        self.pods: dict[str, ApiObject] = {}
        self.value: Callable[[str, str, int], float | None] = lambda metric, name, t_ms: 2
        self.fault: Fault = lambda request: None
        self.after: Callable[[ApiRequest], None] = lambda request: None
        self.requests: list[ApiRequest] = []
        self.clusters = [{"uuid": CLUSTER, "name": "east"}]
        self.tokens, self.expired, self.expires_in = 0, set[str](), 86_400.0
        self.lock = threading.Lock()

    def answer(self, request: ApiRequest) -> Reply:
        with self.lock:
            self.requests.append(request)
            reply = self.fault(request) or self._proper(request)
            self.after(request)
            return reply

    def metric_calls(self) -> list[ApiRequest]:
        return [a for a in self.requests if a.about_metrics]

    def _proper(self, request: ApiRequest) -> Reply:
        if request.path == "/api/v1/token":
            if SECRET not in request.body.values():
                return Reply(401, {"code": 401, "message": f"not {request.body}"})
            self.tokens += 1
            return Reply(200, {"accessToken": f"token-{self.tokens}", "expiresIn": self.expires_in})
        if request.token in self.expired or not request.token.startswith("token-"):
            return Reply(401, {"code": 401, "message": "Issuer is not familiar."})
        if request.path == "/api/v1/clusters":
            return Reply(200, self.clusters)
        if request.path == "/api/v1/workloads":
            return self._page(request, "workloads", [w.as_workload() for w in self.workloads.values()])
        if request.path == "/api/v1/workloads/pods":
            return self._page(request, "pods", [p.as_pod() for p in self.pods.values()])
        return self._metrics(request)

    def _page(self, request: ApiRequest, kind: str, items: list[dict[str, Any]]) -> Reply:
        listed = sorted((i for i in items if _fits(i, request.params)), key=lambda i: (i["createdAt"], i["id"]))
        offset, limit = int(request.params["offset"]), int(request.params["limit"])
        assert 1 <= limit <= 500
        more = {"next": offset + limit} if offset + limit < len(listed) else {}
        return Reply(200, {kind: listed[offset : offset + limit], **more})

    def _metrics(self, request: ApiRequest) -> Reply:
        name = (request.path.split("/")[-2:-1])[0]
        there = self.workloads.get(name) or self.pods.get(name)
        metrics = request.params["metricType"].split(",")
        if there is None:
            return Reply(404, {"code": 404, "message": "Resource id not found."})
        if len(metrics) > 9:
            return Reply(400, {"code": 400, "message": "too many metrics"})
        start, end = (_ms(request.params[name]) for name in ("start", "end"))
        n = int(request.params["numberOfSamples"])
        times = [start + (end - start) * i // n for i in range(n + 1)]
        alive = [t for t in times if there.born_ms <= t and (there.end_ms is None or t <= there.end_ms)]
        measured = []
        for metric in metrics:
            for gpu in range(there.gpus) if metric.endswith("_PER_GPU") else (None,):
                samples = [(t, self.value(metric, name, t)) for t in alive]
                values = [{"value": str(v), "timestamp": when(t)} for t, v in samples if v is not None]
                measured.append({
                    "type": metric, "labels": None if gpu is None else {"gpu": str(gpu)}, "values": values,
                })  # fmt: skip
        return Reply(200, {"measurements": measured})

    def transport(self) -> httpx.MockTransport:
        def handle(request: httpx.Request) -> httpx.Response:
            body = json.loads(request.content) if request.content else {}
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            params = dict(parse_qsl(request.url.query.decode()))
            reply = self.answer(ApiRequest(request.method, request.url.path, params, token, body))
            if reply.slow:
                raise httpx.ReadTimeout("slow", request=request)
            return httpx.Response(reply.status, headers=dict(reply.headers), content=_encoded(reply.body))

        return httpx.MockTransport(handle)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve over a socket; yields the address."""
        end = threading.Event()

        def answer(request: Request) -> Response | None:
            body = json.loads(request.body) if request.body else {}
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            params = {name: values[-1] for name, values in request.query.items()}
            reply = self.answer(ApiRequest(request.method, request.path, params, token, body))
            if reply.slow:
                end.wait()  # Until the test is over: the client has timed out long before.
                return None
            return Response(reply.status, _encoded(reply.body), reply.headers)

        try:
            with serving(answer) as url:
                yield url
        finally:
            end.set()


def times(n: int, reply: Reply, where: Callable[[ApiRequest], bool] = lambda request: request.about_metrics) -> Fault:
    """A reply to the first `n` of the matching requests."""
    left = Counter({"n": n})

    def fault(request: ApiRequest) -> Reply | None:
        if where(request) and left["n"] > 0:
            left["n"] -= 1
            return reply
        return None

    return fault


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _fits(item: Mapping[str, Any], params: Mapping[str, str]) -> bool:
    """Run:ai's own filters, as far as the source uses them."""
    if (item["deletedAt"] is not None) != (params.get("deleted") == "true"):
        return False
    if "completed" in params and (item["completedAt"] is not None) != (params["completed"] == "true"):
        return False
    for condition in filter(None, params.get("filterBy", "").split(",")):
        sign = next(s for s in ("!=", ">=", "==") if s in condition)
        name, operand = condition.split(sign)
        value = item[name]
        if sign == ">=":
            if value is None or _ms(value) < _ms(operand):
                return False
        elif (value == operand) != (sign == "=="):
            return False
    return True
