"""Client of Run:ai's API: it renews its token in time, and retries calls where that can help.

httpx, as in `producers.common.http_client`. Bounded are the time and size of an answer, the tries of a call, and
the waits. After `BRAKE` failed calls in a row, no call is made until the next step: Run:ai is down, and calls
would only burden it. Several threads may use a client at once.
"""

from __future__ import annotations

import logging
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.common.printable import printable
from producers.common.time_limit import OverTimeError, TimeLimit
from producers.runai import responses
from producers.runtime.clock import Clock

log = logging.getLogger(__name__)

TOKEN_PATH = "/api/v1/token"  # noqa: S105
ATTEMPTS = 4
BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
MAX_WAIT_S = 60.0
"""Longest `Retry-After` that a call waits for. With a longer one the call fails, and so do the next ones until then."""
MAX_CLOSED_S = 3_600.0
BRAKE = 16
MAX_BYTES = 32 * 2**20
MAX_LIFE_S = 86_400.0
SPARE_S = 60.0
"""Time before its end at which a token is renewed, or a tenth of its life if that is shorter."""
_OK = (200, 207)
_HEALTHY = frozenset({"status_400", "status_404", "status_422"})
"""Reasons that a healthy Run:ai gives."""
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})


class RunAiResponse(NamedTuple):
    """A body. `partial` is true if Run:ai itself says that something is missing (status 207)."""

    body: bytes
    partial: bool = False


class RawResponse(NamedTuple):
    status: int
    retry_after: str
    body: bytes


class RunAiCredentials(NamedTuple):
    """Credentials for a token: of an application (`app_token`), or an access key (`client_credentials`)."""

    grant: str
    app_id: str
    secret: str

    def body(self) -> dict[str, str]:
        name, secret = ("AppId", "AppSecret") if self.grant == "app_token" else ("clientID", "clientSecret")
        return {"grantType": self.grant, name: self.app_id, secret: self.secret}

    def __repr__(self) -> str:
        return f"Credentials({self.grant}, {self.app_id})"


class RunAiClient:
    """Client of the Run:ai at `url`. `jitter` returns 0 to 1. `clock` is used for waits, so that a stop ends them."""

    def __init__(
        self, url: str, credentials: RunAiCredentials, clock: Clock, jitter: Callable[[], float], *,
        timeout_s: float = 30.0,
        connections: int = 8, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self._credentials, self._clock, self._jitter = credentials, clock, jitter
        self._client = httpx.Client(
            base_url=self.url, timeout=timeout_s, follow_redirects=False, transport=transport,
            limits=httpx.Limits(max_connections=connections), headers={"User-Agent": "wattlog"},
        )  # fmt: skip
        self._limit = TimeLimit(2 * timeout_s)
        self._lock, self._token_lock = threading.Lock(), threading.Lock()
        self._token, self._renew_ms = "", 0
        self._failures, self._open_ms = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def release(self) -> None:
        """Release the brake at the beginning of a step."""
        with self._lock:
            self._failures = 0

    def get(self, path: str, params: Mapping[str, str] | None = None) -> RunAiResponse:
        """Return the answer of a path. Raises Unavailable if no try succeeds, or at once when it is time to stop.

        `reason` of the error is one word.
        """
        self._wait(0)
        with self._lock:
            if self._failures >= BRAKE:
                raise Unavailable(
                    f"{self.url}: not called, because {BRAKE} calls in a row failed",
                    "It is tried again.",
                    reason="brake",
                )
        try:
            raw = self._authorised(path, dict(params or {}))
        except Unavailable as error:
            with self._lock:
                self._failures = 0 if error.reason in _HEALTHY else self._failures + 1
            raise
        with self._lock:
            self._failures = 0
        return RunAiResponse(raw.body, partial=raw.status == 207)

    def _authorised(self, path: str, params: dict[str, str]) -> RawResponse:
        """Call with a token, and once more with a new token if Run:ai rejects it."""
        for once_more in (True, False):
            token = self.token()
            raw = self._persistent("GET", path, params=params, headers={"Authorization": f"Bearer {token}"})
            if raw.status != 401:
                return self._checked(path, raw)
            self._drop(token)
            if once_more:
                log.info("%s rejects its token: fetching another", self.url)
        raise Unavailable(
            f"{self.url}{path} rejects the token that it issued",
            "Does the application have access?",
            reason="status_401",
        )

    def _checked(self, path: str, raw: RawResponse) -> RawResponse:
        if raw.status in _OK:
            return raw
        hint = {403: "Give the application a role that may read workloads and their metrics.", 404: "Is it gone?"}
        raise Unavailable(
            f"{self.url}{path} answers {raw.status}{_error_message(raw.body)}", hint.get(raw.status,
            "It is tried again."),
            reason=f"status_{raw.status}", lasting=raw.status == 403,
        )  # fmt: skip

    # -- the token ---------------------------------------------------------------------------------------------------

    def token(self) -> str:
        """Return a token that is valid for a while. Raises Unavailable, which is lasting if the credentials are
        rejected.
        """
        with self._token_lock:
            if not self._token or self._clock.monotonic_ms() >= self._renew_ms:
                raw = self._persistent("POST", TOKEN_PATH, json=self._credentials.body())
                if raw.status not in _OK:
                    raise Unavailable(
                        f"{self.url}{TOKEN_PATH} answers {raw.status}", "Are `app_id`, `app_secret` and `grant` right?",
                        reason="token", lasting=raw.status in (400, 401, 403),
                    )  # fmt: skip
                token_answer = responses.decode(raw.body, responses.RunAiToken, f"{self.url}{TOKEN_PATH}")
                life_s = min(token_answer.expires_in or _life_s(token_answer.access_token), MAX_LIFE_S)
                spare_s = min(SPARE_S, life_s / 10)
                self._renew_ms = self._clock.monotonic_ms() + round(1000 * (life_s - spare_s))
                self._token = token_answer.access_token
            return self._token

    def _drop(self, token: str) -> None:
        with self._token_lock:
            if self._token == token:  # Otherwise another thread has already renewed it.
                self._token = ""

    # -- single calls ------------------------------------------------------------------------------------------------

    def _persistent(self, method: str, path: str, **request: object) -> RawResponse:
        """Call, with retries and backoff where a retry may help. Returns the last answer, or raises Unavailable."""
        trouble = Unavailable(f"{self.url}{path} was not called", "It is tried again.")
        for attempt in range(ATTEMPTS):
            if attempt:
                self._wait(min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1)) * (0.5 + 0.5 * self._jitter()))
            self._until_open()
            try:
                raw = self._limit.run(path, partial(self._once, method, path, request))
            except (httpx.HTTPError, httpx.InvalidURL, OverTimeError) as error:
                slow = isinstance(error, httpx.TimeoutException | OverTimeError)
                trouble = Unavailable(
                    f"{self.url}{path} does not answer: {error or type(error).__name__}", "Can it be reached?",
                    reason="timeout" if slow else "away",
                )  # fmt: skip
                continue
            if raw.status not in _RETRYABLE:
                return raw
            self._close_for(raw.retry_after)
            trouble = Unavailable(
                f"{self.url}{path} answers {raw.status}{_error_message(raw.body)}", "It is tried again.",
                reason=f"status_{raw.status}",
            )  # fmt: skip
        raise trouble

    def _once(self, method: str, path: str, request: Mapping[str, object]) -> RawResponse:
        end_s = self._now_s() + self._limit.max_s
        with self._client.stream(method, path, **request) as answer:  # type: ignore[arg-type]
            too_large = Unavailable(f"{self.url}{path} gives more than {MAX_BYTES:,} bytes", "Lower `page_size`.")
            body = self._limit.read_body(
                answer.iter_bytes(), too_large, max_bytes=MAX_BYTES, end_s=end_s, now_s=self._now_s
            )
            return RawResponse(answer.status_code, answer.headers.get("Retry-After", ""), body)

    def _now_s(self) -> float:
        return self._clock.monotonic_ms() / 1000

    def _close_for(self, retry_after: str) -> None:
        """Let no call begin before the time that Run:ai names."""
        wait_s = self._seconds(retry_after)
        if wait_s > 0:
            with self._lock:
                until_ms = self._clock.monotonic_ms() + round(1000 * min(wait_s, MAX_CLOSED_S))
                self._open_ms = max(self._open_ms, until_ms)

    def _seconds(self, retry_after: str) -> float:
        text = retry_after.strip()
        if text.isascii() and text.isdecimal():
            return float(text[:9])
        try:
            return parsedate_to_datetime(text).timestamp() - self._clock.wall_ms() / 1000
        except Exception:
            return 0.0

    def _until_open(self) -> None:
        with self._lock:
            wait_s = (self._open_ms - self._clock.monotonic_ms()) / 1000
        if wait_s > MAX_WAIT_S:
            raise Unavailable(
                f"{self.url} asks for no calls for {wait_s:.0f} s", "It is tried again then.", reason="throttled"
            )
        if wait_s > 0:
            self._wait(wait_s)

    def _wait(self, seconds: float) -> None:
        if self._clock.wait(seconds):
            raise Unavailable(f"{self.url}: stopped", "The next run goes on.", reason="stop")


class _ErrorMessage(msgspec.Struct):
    message: str = ""


class _TokenClaims(msgspec.Struct):
    exp: float = 0.0
    iat: float = 0.0


def _error_message(body: bytes) -> str:
    """Return the message of an error, with a colon before it, or "" if it has none."""
    try:
        message = msgspec.json.decode(body, type=_ErrorMessage).message
    except Exception:
        return ""
    return f": {printable(message[:200])}" if message else ""


def _life_s(token: str) -> float:
    """Return the lifetime of a JWT by its own claims (Run:ai verifies them), or an hour if it has none."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_TokenClaims)
    except Exception:
        return 3_600.0
    return claims.exp - claims.iat if claims.exp > claims.iat > 0 else 3_600.0
