"""HTTP client with bounds on time and size. httpx does TLS, proxies and connection pools, and is well maintained."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Self

import httpx

from contracts.errors import Unavailable
from producers.common.time_limit import OverTimeError, TimeLimit

TIMEOUT_S = 5.0
TOTAL_TIMEOUTS = 2
"""Timeouts within which a whole exchange must end, from the look-up of the name to the last byte."""
MAX_BYTES = 32 * 2**20
_NO_TLS = "WRONG_VERSION_NUMBER"
"""OpenSSL's word for an answer that is no TLS."""


class Pages:
    """Client of pages. `timeout_s` bounds each step of an exchange, and TOTAL_TIMEOUTS of it the whole.

    `bearer` is sent as a bearer token; it is in no error and no log. Without `keep_alive` each exchange opens a
    connection of its own.
    """

    def __init__(
        self, *, timeout_s: float = TIMEOUT_S, bearer: str = "", verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None, keep_alive: bool = True,
    ) -> None:  # fmt: skip
        headers = {"User-Agent": "wattlog"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
        self._client = httpx.Client(
            timeout=timeout_s, headers=headers, follow_redirects=False, verify=verify, transport=transport,
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20 if keep_alive else 0),
        )  # fmt: skip
        self._limit = TimeLimit(TOTAL_TIMEOUTS * timeout_s)

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
            raise Unavailable(f"{url} answers {status}", _hint(status))
        return text

    def answer(
        self, method: str, url: str, *, data: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Return status and text; `data` is sent as a form. Raises Unavailable: no answer in time, too large."""
        try:
            return self._limit.run(url, partial(self._exchange, method, url, data, headers))
        except OverTimeError as error:
            raise Unavailable(f"{url} does not answer: {error}", "Is it overloaded?", reason="timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if _NO_TLS in str(error):
                hint = "It answers without TLS, as one that speaks http: try the address with http://."
                raise Unavailable(f"{url} does not speak https", hint) from error
            raise Unavailable(f"{url} does not answer: {error or type(error).__name__}", "Is it running?") from error

    def _exchange(
        self, method: str, url: str, data: Mapping[str, str] | None, headers: Mapping[str, str] | None
    ) -> tuple[int, str]:
        end_s = time.monotonic() + self._limit.max_s
        with self._client.stream(method, url, data=data, headers=headers) as answer:
            too_large = Unavailable(
                f"{url} is larger than {MAX_BYTES:,} bytes", "Ask it for fewer metrics.", reason="too_large"
            )
            body = self._limit.read_body(answer.iter_bytes(), too_large, max_bytes=MAX_BYTES, end_s=end_s)
            return answer.status_code, body.decode(answer.encoding or "utf-8", "replace")


def _hint(status: int) -> str:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return "It asks for a credential: is the `bearer` of this source set, and valid?"
    if 300 <= status < 400:
        return "It leads elsewhere: give the address that it leads to."
    return "Is that the address of its metrics?"
