"""Pods of this node with their labels, from the Kubernetes API. Listing pods is all that it may do
(k8s/base/agent.yaml)."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.bindings.kubernetes.pods import LabelledPod, PodsByName

TIMEOUT_S = 2.0
MAX_BYTES = 32 * 2**20


class _PodList(msgspec.Struct):
    items: list[LabelledPod]


class ApiServer:
    """Lists the pods of `node`. The token is read anew each time: the kubelet renews it. It is in no error and no log.

    `url` is "" inside of a cluster, which says itself where its API is.
    """

    def __init__(self, url: str, node: str, token_file: Path, ca_file: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._node, self._token_file, self._ca_file = url, node, token_file, ca_file
        self._timeout_s = timeout_s

    def pods(self) -> PodsByName:
        """Raises Unavailable: no address, no token, no answer within the time, another status than 200."""
        url = f"{self._url or _in_cluster()}/api/v1/pods"
        # Version 0: from the server's memory, not from etcd.
        asked = {"fieldSelector": f"spec.nodeName={self._node}", "resourceVersion": "0"}
        try:
            token = self._token_file.read_text("utf-8").strip()
            verify = ssl.create_default_context(cafile=str(self._ca_file)) if url.startswith("https") else False
        except OSError as error:
            raise Unavailable(
                f"The service account's token or CA cannot be read: {error}", "Are they mounted (k8s/base/agent.yaml)?"
            ) from None
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "User-Agent": "wattlog"}
        try:
            with httpx.Client(verify=verify, timeout=self._timeout_s, trust_env=False) as client:
                body = self._body(client, url, asked, headers)
            listed = msgspec.json.decode(body, type=_PodList)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = str(error) or type(error).__name__
            raise Unavailable(f"{url} does not answer: {said}", "May the agent reach the API server?") from None
        except msgspec.MsgspecError as error:
            raise Unavailable(
                f"{url} does not answer with a list of pods: {error}", "Is that the API server?"
            ) from None
        return {(pod.metadata.namespace, pod.metadata.name): pod for pod in listed.items}

    def _body(self, client: httpx.Client, url: str, asked: dict[str, str], headers: dict[str, str]) -> bytes:
        deadline = time.monotonic() + 2 * self._timeout_s  # In all; httpx bounds each step alone.
        with client.stream("GET", url, params=asked, headers=headers) as answer:
            if answer.status_code != httpx.codes.OK:
                raise Unavailable(
                    f"{url} answers {answer.status_code}", "Has the agent's service account the right to list pods?"
                )
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES or time.monotonic() > deadline:
                    raise Unavailable(f"{url} goes on and on: {len(body):,} bytes so far", "Is that the API server?")
            return bytes(body)


def _in_cluster() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise Unavailable("It is not known where the Kubernetes API is", "Give `produce.bindings.api`.")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
