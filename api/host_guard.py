"""Middleware against attacks through a browser: a check of the Host header on loopback, and security headers."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from contracts.bearer_tokens import is_loopback, names_loopback_only

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class HostGuard:
    """ASGI middleware that adds security headers and, on loopback, refuses hosts that are not loopback (421).

    Without that check, a web page could read the ledger after rebinding its name to 127.0.0.1 (DNS rebinding). CORS is
    not enabled for any origin.
    """

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        self._app = app
        self._loopback = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                headers.extend(_HEADERS)
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
            await send(message)

        if self._loopback and not names_loopback_only([value for name, value in scope["headers"] if name == b"host"]):
            detail = "The Host header names another machine: use localhost or 127.0.0.1."
            await problem(scope["path"], 421, "misdirected", detail)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)
