"""Client of the Kubernetes API: lists, watches, and the pods of a node with their labels. An agent's service account
may only list pods (k8s/agents/agent.yaml)."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.bindings.kubernetes.pods import LabelledPod, PodListing
from producers.common.time_limit import OverTimeError, TimeLimit
from producers.runtime.refusals import read_each, shorten

TIMEOUT_S = 2.0
MAX_BYTES = 32 * 2**20
MAX_PARTS = 100
"""Parts in which an API server may give a list."""
MAX_LINE_BYTES = 4 * 2**20
"""Limit of a watch's event: the API server stores objects of up to 1.5 MB."""
PODS = "/api/v1/pods"
_IS_IT = "Is that the API server?"


class _ListMetadata(msgspec.Struct, frozen=True, rename={"version": "resourceVersion", "next_part": "continue"}):
    version: str = ""
    next_part: str = ""
    """Token by which the next part of a list is asked for; "" where it is complete."""


class PodListPart(msgspec.Struct):
    """A list of pods, undecoded, or one part of it."""

    items: list[msgspec.Raw] | None
    """None for an empty list of some servers in Go."""
    metadata: _ListMetadata = _ListMetadata()


class ApiClient:
    """Client of the Kubernetes API.

    The token is read each time, because the kubelet renews it; it is in no error and no log. `url` is "" inside of a
    cluster, which gives the address of its API.
    """

    def __init__(self, url: str, token_file: Path, ca_file: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._token_file, self._ca_file = url, token_file, ca_file
        self._timeout_s = timeout_s
        self._limit = TimeLimit(2 * timeout_s)  # In total; httpx bounds each step alone.

    def get(self, path: str, query: Mapping[str, str], right: str) -> bytes:
        """Return the answer's body. `right` is what the service account must be allowed: "list pods".

        Raises Unavailable: no address, no token, no answer within the time, another status than 200.
        """
        url = self.address(path)
        name = f"{url}?{urlencode(query)}"
        try:
            return self._limit.run(name, partial(self._body, url, query, self._access(url), right))
        except OverTimeError as error:
            raise Unavailable(f"{url} does not answer: {error}", "Is that the API server?", reason="timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _no_answer(url, error) from None

    def pod_items(self, path: str, query: Mapping[str, str], right: str) -> tuple[list[msgspec.Raw], str]:
        """Return the pods of a list, undecoded, and its version, however many parts it has.

        Raises Unavailable like `get`, and for what is no list.
        """
        items, next_part = list[msgspec.Raw](), dict[str, str]()
        for _ in range(MAX_PARTS):
            body = self.get(path, {**query, **next_part}, right)
            part = parse_list(body, self.address(path))
            items += part.items or []
            if not part.metadata.next_part:
                return items, part.metadata.version
            # A token says of which version: both are refused together.
            query = {name: value for name, value in query.items() if name != "resourceVersion"}
            next_part = {"continue": part.metadata.next_part}
        raise Unavailable(f"{self.address(path)} lists pods in more than {MAX_PARTS} parts", _IS_IT)

    def lines(self, path: str, query: Mapping[str, str], right: str, *, quiet_s: float) -> Iterator[bytes]:
        """Yield the lines of an answer as they come, until it ends. Raises Unavailable, also after `quiet_s` without
        any."""
        url = self.address(path)
        try:
            with self._answer(url, query, self._access(url), right, read_s=quiet_s) as response:
                buffer = bytearray()
                for chunk in response.iter_bytes():
                    buffer += chunk
                    *complete, begun = buffer.split(b"\n")
                    yield from (bytes(line) for line in complete if line)
                    buffer = bytearray(begun)
                    if len(buffer) > MAX_LINE_BYTES:
                        raise Unavailable(f"{url} sends a line of more than {MAX_LINE_BYTES:,} bytes", _IS_IT)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _no_answer(url, error) from None

    def address(self, path: str) -> str:
        """Return the address of a path. Raises Unavailable where the API's is not known."""
        return f"{self._url or _in_cluster_url()}{path}"

    def _access(self, url: str) -> tuple[ssl.SSLContext | bool, dict[str, str]]:
        """Return how the server is verified, and the headers."""
        try:
            token = self._token_file.read_text("utf-8").strip()
            verify = ssl.create_default_context(cafile=str(self._ca_file)) if url.startswith("https") else False
        except Exception as error:
            raise Unavailable(
                f"The service account's token or CA cannot be read: {error}",
                "Does the pod mount them (k8s/agents/agent.yaml)?",
            ) from None
        if not (token.isascii() and token.isprintable()):  # The client's error would show it.
            raise Unavailable(f"{self._token_file} holds no token", "Is that the service account's token?")
        return verify, {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "wattlog"}

    @contextmanager
    def _answer(
        self, url: str, query: Mapping[str, str], access: tuple[ssl.SSLContext | bool, dict[str, str]], right: str,
        *, read_s: float,
    ) -> Iterator[httpx.Response]:  # fmt: skip
        verify, headers = access
        timeout = httpx.Timeout(self._timeout_s, read=read_s)
        with (
            httpx.Client(verify=verify, timeout=timeout, trust_env=False) as client,
            client.stream("GET", url, params=dict(query), headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                hint = f"Has the service account the right to {right}?"
                raise Unavailable(f"{url} answers {response.status_code}", hint)
            yield response

    def _body(
        self, url: str, query: Mapping[str, str], access: tuple[ssl.SSLContext | bool, dict[str, str]], right: str
    ) -> bytes:  # fmt: skip
        end_s = time.monotonic() + self._limit.max_s
        with self._answer(url, query, access, right, read_s=self._timeout_s) as response:
            too_large = Unavailable(f"{url} sends more than {MAX_BYTES:,} bytes", _IS_IT)
            return self._limit.read_body(response.iter_bytes(), too_large, max_bytes=MAX_BYTES, end_s=end_s)


class ApiServer:
    """Client that lists the pods of `node`."""

    def __init__(self, url: str, node: str, token_file: Path, ca_file: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._client, self._node = ApiClient(url, token_file, ca_file, timeout_s=timeout_s), node

    def pods(self) -> PodListing:
        """Return the pods; a malformed one is left out and named. Raises Unavailable where there is no list."""
        # Version 0: from the server's memory, not from etcd.
        query = {"fieldSelector": f"spec.nodeName={self._node}", "resourceVersion": "0"}
        return parse_pods(self._client.pod_items(PODS, query, "list pods")[0], self._client.address(PODS))


def _no_answer(url: str, error: Exception) -> Unavailable:
    return Unavailable(f"{url} does not answer: {str(error) or type(error).__name__}", "May it be reached from here?")


def parse_list(body: bytes, url: str) -> PodListPart:
    """Return a part of a list of pods. Raises Unavailable for what is none."""
    try:
        return msgspec.json.decode(body, type=PodListPart)
    except Exception as error:
        problem = f"{url} does not answer with a list of pods: {shorten(error)}"
        raise Unavailable(problem, _IS_IT, reason="answer") from None


def parse_pods(items: Sequence[msgspec.Raw], url: str) -> PodListing:
    """Parse pods. Raises Unavailable if none of them is one."""
    refused: list[str] = []
    placed = ((f"pod {n} of the list", bytes(item)) for n, item in enumerate(items))
    pods = list(read_each(placed, msgspec.json.Decoder(LabelledPod).decode, refused, show=True))
    if refused and not pods:
        raise Unavailable(f"{url} does not answer with a list of pods: {refused[0]}", "Is that the API server?")
    return PodListing({(pod.metadata.namespace, pod.metadata.name): pod for pod in pods}, refused)


def _in_cluster_url() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise Unavailable("The address of the Kubernetes API is not known", "Set `produce.bindings.api`.")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
