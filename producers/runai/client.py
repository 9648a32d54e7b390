"""Run:ai's API over HTTP: a token that is renewed in time, and calls that are tried again where that can help.

httpx, as in `producers.common.http_client`. Bounded: the time and size of an answer, how often a call is tried, how
long it waits; after `BRAKE` calls in a row that failed nothing more is asked until the next step: Run:ai is down, and
would only be burdened. May be used by several threads at once.
"""

from __future__ import annotations

import binascii
import logging
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import NamedTuple, Self

import httpx
import msgspec

from contracts.errors import Unavailable
from producers.runai import responses
from producers.runai.normalise import printable
from producers.runtime.clock import Clock

log = logging.getLogger(__name__)

TOKEN_PATH = "/api/v1/token"  # noqa: S105
ATTEMPTS = 4
BACKOFF_S, MAX_BACKOFF_S = 0.5, 8.0
MAX_WAIT_S = 60.0
"""The longest `Retry-After` that is waited for; with a longer one the call fails, and the next ones until then."""
MAX_CLOSED_S = 3_600.0
BRAKE = 16
MAX_BYTES = 32 * 2**20
SPARE_S = 60.0
"""How long before its end a token is renewed, or a tenth of its life if that is shorter."""
_OK = (200, 207)
_WELL = frozenset({"status_400", "status_404", "status_422"})
"""Reasons that come from a Run:ai that is well."""
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class RunAiResponse(NamedTuple):
    """`partial`: Run:ai says itself that something lacks (status 207)."""

    body: bytes
    partial: bool = False


class RawResponse(NamedTuple):
    status: int
    retry_after: str
    body: bytes


class RunAiCredentials(NamedTuple):
    """What a token is asked for with: Run:ai's application (`app_token`), or an access key (`client_credentials`)."""

    grant: str
    app_id: str
    secret: str

    def body(self) -> dict[str, str]:
        name, secret = ("AppId", "AppSecret") if self.grant == "app_token" else ("clientID", "clientSecret")
        return {"grantType": self.grant, name: self.app_id, secret: self.secret}

    def __repr__(self) -> str:
        return f"Credentials({self.grant}, {self.app_id})"


class RunAiClient:
    """See the module. `jitter` gives 0 to 1; `clock` is waited on, so that a stop ends it."""

    def __init__(
        self, url: str, credentials: RunAiCredentials, clock: Clock, jitter: Callable[[], float], *,
        timeout_s: float = 30.0,
        connections: int = 8, transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self._credentials, self._clock, self._jitter, self._timeout_s = credentials, clock, jitter, timeout_s
        self._client = httpx.Client(
            base_url=self.url, timeout=timeout_s, follow_redirects=False, transport=transport,
            limits=httpx.Limits(max_connections=connections), headers={"User-Agent": "wattlog"},
        )  # fmt: skip
        self._lock, self._token_lock = threading.Lock(), threading.Lock()
        self._token, self._renew_ms = "", 0
        self._failures, self._open_ms = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def release(self) -> None:
        """Let go of the brake: a new step begins."""
        with self._lock:
            self._failures = 0

    def get(self, path: str, params: Mapping[str, str] | None = None) -> RunAiResponse:
        """Raises Unavailable: no answer, or none that helps, after some tries; `reason` is a word for which. At once
        when it is time to stop."""
        self._wait(0)
        with self._lock:
            if self._failures >= BRAKE:
                raise Unavailable(
                    f"{self.url}: not asked, since {BRAKE} calls in a row failed", "It is tried again.", reason="brake"
                )
        try:
            raw = self._authorised(path, dict(params or {}))
        except Unavailable as error:
            with self._lock:
                self._failures = 0 if error.reason in _WELL else self._failures + 1
            raise
        with self._lock:
            self._failures = 0
        return RunAiResponse(raw.body, partial=raw.status == 207)

    def _authorised(self, path: str, params: dict[str, str]) -> RawResponse:
        """With a token, and once more with a new one if Run:ai does not take it."""
        for once_more in (True, False):
            token = self.token()
            raw = self._persistent("GET", path, params=params, headers={"Authorization": f"Bearer {token}"})
            if raw.status != 401:
                return self._checked(path, raw)
            self._drop(token)
            if once_more:
                log.info("%s does not take its token any more: asking for another", self.url)
        raise Unavailable(
            f"{self.url}{path} refuses the token that it gave", "Does the application have access?", reason="status_401"
        )

    def _checked(self, path: str, raw: RawResponse) -> RawResponse:
        if raw.status in _OK:
            return raw
        hint = {403: "Give the application a role that may read workloads and their metrics.", 404: "Is it gone?"}
        raise Unavailable(
            f"{self.url}{path} answers {raw.status}{_said(raw.body)}", hint.get(raw.status, "It is tried again."),
            reason=f"status_{raw.status}", lasting=raw.status == 403,
        )  # fmt: skip

    # -- the token ---------------------------------------------------------------------------------------------------

    def token(self) -> str:
        """A token that is good for a while. Raises Unavailable; lasting where the credentials are not taken."""
        with self._token_lock:
            if not self._token or self._clock.monotonic_ms() >= self._renew_ms:
                raw = self._persistent("POST", TOKEN_PATH, json=self._credentials.body())
                if raw.status not in _OK:
                    raise Unavailable(
                        f"{self.url}{TOKEN_PATH} answers {raw.status}", "Are `app_id`, `app_secret` and `grant` right?",
                        reason="token", lasting=raw.status in (400, 401, 403),
                    )  # fmt: skip
                given = responses.read(raw.body, responses.RunAiToken, f"{self.url}{TOKEN_PATH}")
                life_s = given.expires_in or _life_s(given.access_token)
                spare_s = min(SPARE_S, life_s / 10)
                self._renew_ms = self._clock.monotonic_ms() + round(1000 * (life_s - spare_s))
                self._token = given.access_token
            return self._token

    def _drop(self, token: str) -> None:
        with self._token_lock:
            if self._token == token:  # Else another thread has a new one already.
                self._token = ""

    # -- single calls ------------------------------------------------------------------------------------------------

    def _persistent(self, method: str, path: str, **request: object) -> RawResponse:
        """Tried again, with backoff, where another try may help; then the last answer, or Unavailable."""
        trouble = Unavailable(f"{self.url}{path} was not asked", "It is tried again.")
        for attempt in range(ATTEMPTS):
            if attempt:
                self._wait(min(MAX_BACKOFF_S, BACKOFF_S * 2 ** (attempt - 1)) * (0.5 + 0.5 * self._jitter()))
            self._until_open()
            try:
                raw = self._once(method, path, request)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                slow = isinstance(error, httpx.TimeoutException)
                trouble = Unavailable(
                    f"{self.url}{path} does not answer: {error or type(error).__name__}", "Can it be reached?",
                    reason="timeout" if slow else "away",
                )  # fmt: skip
                continue
            if raw.status not in _AGAIN:
                return raw
            self._close_for(raw.retry_after)
            trouble = Unavailable(
                f"{self.url}{path} answers {raw.status}{_said(raw.body)}", "It is tried again.",
                reason=f"status_{raw.status}",
            )  # fmt: skip
        raise trouble

    def _once(self, method: str, path: str, request: Mapping[str, object]) -> RawResponse:
        end_ms = self._clock.monotonic_ms() + round(2000 * self._timeout_s)
        with self._client.stream(method, path, **request) as answer:  # type: ignore[arg-type]
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise Unavailable(f"{self.url}{path} gives more than {MAX_BYTES:,} bytes", "Lower `page_size`.")
                if self._clock.monotonic_ms() > end_ms:  # A trickle that never times out by itself.
                    raise httpx.ReadTimeout("it takes too long")
            return RawResponse(answer.status_code, answer.headers.get("Retry-After", ""), bytes(body))

    def _close_for(self, retry_after: str) -> None:
        """Nobody asks anything before the time that Run:ai says."""
        wait_s = self._seconds(retry_after)
        if wait_s > 0:
            with self._lock:
                until_ms = self._clock.monotonic_ms() + round(1000 * min(wait_s, MAX_CLOSED_S))
                self._open_ms = max(self._open_ms, until_ms)

    def _seconds(self, retry_after: str) -> float:
        said = retry_after.strip()
        if said.isascii() and said.isdecimal():
            return float(said[:9])
        try:
            return parsedate_to_datetime(said).timestamp() - self._clock.wall_ms() / 1000
        except (ValueError, OverflowError):
            return 0.0

    def _until_open(self) -> None:
        with self._lock:
            wait_s = (self._open_ms - self._clock.monotonic_ms()) / 1000
        if wait_s > MAX_WAIT_S:
            raise Unavailable(
                f"{self.url} asks to be left alone for {wait_s:.0f} s", "It is tried again then.", reason="throttled"
            )
        if wait_s > 0:
            self._wait(wait_s)

    def _wait(self, seconds: float) -> None:
        if self._clock.wait(seconds):
            raise Unavailable(f"{self.url}: stopped", "The next run goes on.", reason="stop")


def _said(body: bytes) -> str:
    """The message of an error, if it has one."""

    class _ErrorMessage(msgspec.Struct):
        message: str = ""

    try:
        message = msgspec.json.decode(body, type=_ErrorMessage).message
    except msgspec.DecodeError:
        return ""
    return f": {printable(message[:200])}" if message else ""


def _life_s(token: str) -> float:
    """How long a JWT is good for, by its own word (unverified: Run:ai verifies it); an hour where it has none."""

    class _TokenClaims(msgspec.Struct):
        exp: float = 0.0
        iat: float = 0.0

    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_TokenClaims)
    except (IndexError, binascii.Error, ValueError):
        return 3_600.0
    return claims.exp - claims.iat if claims.exp > claims.iat > 0 else 3_600.0
