"""HTTP client with bounds on time and size. httpx does TLS, proxies and connection pools, and is well maintained."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

from contracts.errors import Unavailable

TIMEOUT_S = 5.0
MAX_BYTES = 32 * 2**20


class Pages:
    """Client of pages. `bearer` is sent as a bearer token; it is in no error and no log."""

    def __init__(
        self, *, timeout_s: float = TIMEOUT_S, bearer: str = "", verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        headers = {"User-Agent": "wattlog"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        self._client = httpx.Client(
            timeout=timeout_s, headers=headers, follow_redirects=False, verify=verify, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    @property
    def client(self) -> httpx.Client:
        """The underlying client, for streams."""
        return self._client

    def text(self, url: str, headers: Mapping[str, str] | None = None) -> str:
        """Return a page's text. Raises Unavailable: no answer, another status than 200, too large."""
        status, text = self.answer("GET", url, headers=headers)
        if status != httpx.codes.OK:
            raise Unavailable(f"{url} answers {status}", "Is that the address of its metrics?")
        return text

    def answer(
        self, method: str, url: str, *, data: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Return status and text; `data` is sent as a form. Raises Unavailable: no answer, too large."""
        try:
            with self._client.stream(method, url, data=data, headers=headers) as answer:
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise Unavailable(f"{url} is larger than {MAX_BYTES:,} bytes", "Ask it for fewer metrics.")
                return answer.status_code, body.decode(answer.encoding or "utf-8", "replace")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{url} does not answer: {error or type(error).__name__}", "Is it running?") from error
