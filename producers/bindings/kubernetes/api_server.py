"""Pods of this node with their labels, from the Kubernetes API. The service account may only list pods
(k8s/base/agent.yaml)."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.bindings.kubernetes.pods import LabelledPod, PodListing
from producers.common.time_limit import OverTimeError, TimeLimit
from producers.runtime.refusals import read_each, shorten

TIMEOUT_S = 2.0
MAX_BYTES = 32 * 2**20


class _PodList(msgspec.Struct):
    items: list[msgspec.Raw]


class ApiServer:
    """Client that lists the pods of `node`.

    The token is read each time, because the kubelet renews it; it is in no error and no log. `url` is "" inside of a
    cluster, which gives the address of its API.
    """

    def __init__(self, url: str, node: str, token_file: Path, ca_file: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._node, self._token_file, self._ca_file = url, node, token_file, ca_file
        self._timeout_s = timeout_s
        self._limit = TimeLimit(2 * timeout_s)  # In total; httpx bounds each step alone.

    def pods(self) -> PodListing:
        """Return the pods; a malformed one is left out and named.

        Raises Unavailable: no address, no token, no answer within the time, another status than 200, no list of pods.
        """
        url = f"{self._url or _in_cluster_url()}/api/v1/pods"
        # Version 0: from the server's memory, not from etcd.
        query = {"fieldSelector": f"spec.nodeName={self._node}", "resourceVersion": "0"}
        try:
            token = self._token_file.read_text("utf-8").strip()
            verify = ssl.create_default_context(cafile=str(self._ca_file)) if url.startswith("https") else False
        except Exception as error:
            raise Unavailable(
                f"The service account's token or CA cannot be read: {error}", "Are they mounted (k8s/base/agent.yaml)?"
            ) from None
        if not (token.isascii() and token.isprintable()):  # The client's error would show it.
            raise Unavailable(f"{self._token_file} holds no token", "Is that the service account's token?")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "wattlog"}
        try:
            body = self._limit.run(url, lambda: self._body(verify, url, query, headers))
        except OverTimeError as error:
            raise Unavailable(f"{url} does not answer: {error}", "Is that the API server?", reason="timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"{url} does not answer: {reason}", "May the agent reach the API server?") from None
        return _parse_pods(body, url)

    def _body(
        self, verify: ssl.SSLContext | bool, url: str, query: dict[str, str], headers: dict[str, str]
    ) -> bytes:  # fmt: skip
        end_s = time.monotonic() + self._limit.max_s
        with (
            httpx.Client(verify=verify, timeout=self._timeout_s, trust_env=False) as client,
            client.stream("GET", url, params=query, headers=headers) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise Unavailable(
                    f"{url} answers {response.status_code}", "Has the agent's service account the right to list pods?"
                )
            too_large = Unavailable(f"{url} sends more than {MAX_BYTES:,} bytes", "Is that the API server?")
            return self._limit.read_body(response.iter_bytes(), too_large, max_bytes=MAX_BYTES, end_s=end_s)


def _parse_pods(body: bytes, url: str) -> PodListing:
    """Parse a list of pods. Raises Unavailable if no part of it is one."""
    try:
        items = msgspec.json.decode(body, type=_PodList).items
    except Exception as error:
        problem = f"{url} does not answer with a list of pods: {shorten(error)}"
        raise Unavailable(problem, "Is that the API server?", reason="answer") from None
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
