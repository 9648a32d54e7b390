"""Pods of a namespace that serve, by label selector or Service, kept up to date by a watch of the API server.

A thread lists the pods, and then reads the watch's events. A watch ends after WATCH_S and goes on from its last
version; after any failure the pods are listed again. Meanwhile the last answer stands, and says how old it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from contracts.errors import Unavailable
from producers.bindings.kubernetes.api_server import ApiClient
from producers.bindings.kubernetes.serving_pod import ServingPod
from producers.runtime.refusals import read_each, shorten

log = logging.getLogger(__name__)

WATCH_S = 60
MAX_PAUSE_S = 30.0
MAX_PODS = 10_000
EXIT_S = 2.0
RIGHTS = "list and watch pods"


class PodsView(NamedTuple):
    """Pods that run and have an address, those that wait to run, and sentences on those that could not be read.

    `is_current` is False while the API server does not answer: another pod may have the address of one that ended.
    """

    pods: Sequence[ServingPod]
    refused: Sequence[str] = ()
    is_current: bool = True
    waiting: Sequence[ServingPod] = ()


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct):
    metadata: _Metadata = _Metadata()


class _ServiceSpec(msgspec.Struct, frozen=True):
    selector: dict[str, str] = {}


class _Service(msgspec.Struct):
    spec: _ServiceSpec = _ServiceSpec()


class PodWatch:
    """Watch of pods: a context manager whose thread lives as long. `node` limits it to one node's pods, "" does not.

    One of `selector` and `service` is given.
    """

    def __init__(
        self, client: ApiClient, namespace: str, *, selector: str = "", service: str = "", node: str = "",
        keep_s: float = 300.0, pause_s: float = 1.0, monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._client, self._namespace, self._selector, self._service = client, namespace, selector, service
        self._node, self._keep_s, self._pause_s, self._monotonic_s = node, keep_s, pause_s, monotonic_s
        self._lock = threading.Lock()
        self._pods: dict[str, ServingPod] = {}
        self._refused: list[str] = []
        self._listed: dict[str, str] = {}
        self._confirmed_s: float | None = None
        self._failure: Exception | None = None
        self._first, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pods {namespace}", daemon=True)

    def __enter__(self) -> PodWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(EXIT_S)

    def view(self, wait_s: float = 5.0) -> PodsView:
        """Return the pods; at first wait for their list. Raises Unavailable where the last answer is too old."""
        self._first.wait(wait_s)
        with self._lock:
            age_s = None if self._confirmed_s is None else self._monotonic_s() - self._confirmed_s
            if age_s is None or age_s > self._keep_s:
                since = "since the start" if age_s is None else f"for {age_s:.0f} s"
                problem = f"The API server has not listed the pods {since}"
                raise Unavailable(f"{problem}: {self._failure or 'no answer yet'}", "Is it reachable from here?")
            refused, self._refused = self._refused, []
            pods = sorted(self._pods.values(), key=lambda pod: pod.place)
            running = [pod for pod in pods if pod.status.phase == "Running" and pod.status.pod_ip]
            waiting = [pod for pod in pods if pod.status.phase == "Pending"]
            return PodsView(running, refused, self._failure is None, waiting)

    def _run(self) -> None:
        version, pause_s = "", self._pause_s
        while not self._stop.is_set():
            try:
                version = self._watch(version) if version else self.list_once()
                pause_s = self._pause_s
                self._stop.wait(pause_s)  # A proxy may end each watch at once.
            except Exception as error:  # Of any class: the thread must go on.
                with self._lock:
                    self._failure = error
                log.debug("pods of %s", self._namespace, exc_info=error)
                version = ""
                self._first.set()
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def list_once(self) -> str:
        """List the pods and return the version of the list. Raises Unavailable."""
        self._listed = self._query()
        items, version = self._client.pod_items(self._path, self._listed | {"resourceVersion": "0"}, RIGHTS)
        refused: list[str] = []
        placed = ((f"pod {n} of the list", bytes(item)) for n, item in enumerate(items))
        pods = list(read_each(placed, msgspec.json.Decoder(ServingPod).decode, refused))
        if len(pods) > MAX_PODS:
            raise Unavailable(f"{self._path} lists {len(pods):,} pods", f"Select {MAX_PODS:,} at most.")
        with self._lock:
            self._pods = {pod.metadata.uid or pod.place: pod for pod in pods}
            self._refused, self._confirmed_s, self._failure = refused, self._monotonic_s(), None
        self._first.set()
        return version

    def _watch(self, version: str) -> str:
        """Follow the changes after a version, and return the last one; "" where the pods must be listed again."""
        query = self._query()
        if query != self._listed:  # The Service selects other pods now.
            return ""
        query |= {
            "watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_S), "allowWatchBookmarks": "true",
        }  # fmt: skip
        for line in self._client.lines(self._path, query, RIGHTS, quiet_s=WATCH_S + 10):
            if self._stop.is_set():
                break
            event = msgspec.json.decode(line, type=_WatchEvent)
            if event.type == "ERROR":  # Usually 410: the version is too old.
                return ""
            self._apply(event)
            version = msgspec.json.decode(event.object, type=_Versioned).metadata.resource_version or version
        with self._lock:
            self._confirmed_s, self._failure = self._monotonic_s(), None
        return version

    def _apply(self, event: _WatchEvent) -> None:
        if event.type == "BOOKMARK":
            pod = None
        else:
            refused: list[str] = []
            decode = msgspec.json.Decoder(ServingPod).decode
            pod = next(iter(read_each([("a pod", bytes(event.object))], decode, refused)), None)
            with self._lock:
                self._refused = [*self._refused, *refused][-100:]
        with self._lock:
            self._confirmed_s = self._monotonic_s()
            if pod is None:
                return
            uid = pod.metadata.uid or pod.place
            if event.type == "DELETED":
                self._pods.pop(uid, None)
            elif uid in self._pods or len(self._pods) < MAX_PODS:
                self._pods[uid] = pod
            else:
                text = f"{pod.place}: is more than the {MAX_PODS:,} pods that one entry may select: select fewer"
                self._refused = [*self._refused, text][-100:]

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods"

    def _query(self) -> dict[str, str]:
        selector = self._selector or self._selector_of_service()
        return {"labelSelector": selector} | ({"fieldSelector": f"spec.nodeName={self._node}"} if self._node else {})

    def _selector_of_service(self) -> str:
        path = f"/api/v1/namespaces/{self._namespace}/services/{self._service}"
        body = self._client.get(path, {}, "get services")
        try:
            labels = msgspec.json.decode(body, type=_Service).spec.selector
        except Exception as error:
            raise Unavailable(
                f"{path} is no Service: {shorten(error)}", "Is that the API server?", reason="answer"
            ) from None
        if not labels:
            raise Unavailable(f"The Service {self._service} selects no pods", "Give their `selector`.", lasting=True)
        return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
