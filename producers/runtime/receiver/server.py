"""Listener as an ASGI application: handles the requests of every `Route` alike, from the first byte to the answer.

FastAPI, as in the API, routes requests and describes the routes at /openapi.json. The application reads bodies itself,
because it must bound them while they arrive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contracts.bearer_tokens import is_loopback, names_loopback_only
from contracts.callers import Caller
from contracts.errors import AccessDenied, Unavailable, WattlogError
from producers.api import ParsedRequest, ReceivedRequest, Reply, Route
from producers.runtime.clock import Clock
from producers.runtime.deduplication import REPEATED, DeduplicationTrial
from producers.runtime.rare_log import RareLog
from producers.runtime.receiver import problems
from producers.runtime.receiver.auth import Verifier
from producers.runtime.receiver.bodies import gunzip, too_large
from producers.runtime.receiver.delivery_queue import DeliveryQueue
from producers.runtime.receiver.door import SenderRules
from producers.runtime.receiver.messages import unnumbered_messages
from producers.runtime.receiver.metrics import ReceiverMetrics
from producers.runtime.receiver.parsers import ParserPool
from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.sender_memories import SenderMemories, memory_name
from producers.runtime.receiver.sender_quotas import NO_QUOTA, Quota, SenderQuotas
from producers.runtime.receiver.sender_rates import SenderRates
from producers.runtime.receiver.sender_shares import SenderShares
from producers.runtime.refusals import ItemRefusal
from producers.runtime.spool import Outgoing

log = logging.getLogger(__name__)

_MALFORMED = frozenset({400, 408, 413, 415, 422})
"""Statuses of requests that can never be accepted as they are."""
PROTOBUF = "application/x-protobuf"
_CLIENT_GONE = 499
"""Status that nginx logs for a client that disconnected. It appears in /metrics only."""


class RequestLimits(NamedTuple):
    """Limits of one request: its body, the requests in flight, and the time to read it and to acknowledge it."""

    body_bytes: int = 16 * 2**20
    requests: int = 64
    buffered_bytes: int = 256 * 2**20
    """Bytes of all bodies under way, as they were sent. Of these and of the requests, a sender has half at most."""
    read_s: float = 10.0
    """Seconds from the first byte of a body to its last."""
    ack_s: float = 10.0
    """Seconds to wait for the brokers' acknowledgement."""


class RequestHandler:
    """Handler of the requests of all routes, on one event loop."""

    def __init__(
        self, delivery_queue: DeliveryQueue, verifier: Verifier, limits: RequestLimits, metrics: ReceiverMetrics,
        clock: Clock, memories: SenderMemories, *, node: str, host: str,
        door: SenderRules | None = None, quota: Quota = NO_QUOTA,
    ) -> None:  # fmt: skip
        self._door = SenderRules() if door is None else door
        self._rates = SenderRates(self._door.max_tokens_per_s)
        self._quotas = SenderQuotas(quota)
        self._delivery_queue, self._verifier, self._limits = delivery_queue, verifier, limits
        self._metrics, self._memories = metrics, memories
        self._clock, self._node, self._loopback = clock, node, is_loopback(host)
        self._shares = SenderShares(
            limits.requests, limits.buffered_bytes, metrics.in_flight.set, alone=verifier.open
        )  # fmt: skip
        self._parsers = ParserPool()
        self._rare_logs: dict[tuple[str, str], RareLog] = {}
        """By route and kind of rejection."""

    async def answer(self, route: Route, request: Request) -> Response:
        """Return the answer to a request. Raises nothing: every error becomes a problem document and is counted."""
        try:
            reply = await self._admit(route, request)
        except ClientDisconnect:
            self._metrics.rejected.labels(route.path, "disconnected").inc()
            return self._counted(route, Response(status_code=_CLIENT_GONE))
        except Exception as error:
            return self._counted(route, self._rejected(route, request, self._rejection(route, error)))
        return self._counted(route, Response(reply.body, reply.status, media_type=reply.content_type or None))

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Return whether a sender with these headers may send. Any thread may ask, before a body is read."""
        try:
            self._verifier.caller(headers)
        except AccessDenied:
            return False
        except Unavailable:
            pass  # The answer says so.
        return True

    @property
    def body_bytes(self) -> int:
        """Bytes of one body at most."""
        return self._limits.body_bytes

    async def answer_call(self, route: Route, headers: Mapping[str, str], body: bytes) -> Reply | Rejected:
        """Return the answer to a call whose body, in protobuf, was read by another server. Raises nothing."""
        try:
            caller = await self._verifier.admitted(headers, route.path)
            if len(body) > self._limits.body_bytes:
                raise too_large(self._limits.body_bytes)
            self._quotas.take_request(sender_of(caller), self._clock.monotonic_ms())
            with self._shares.body(sender_of(caller)) as hold:
                hold(len(body))
                sent = ReceivedRequest(body, PROTOBUF, headers, caller, self._clock.wall_ms())
                answer: Reply | Rejected = await self._process(route, sent)
        except Exception as error:
            answer = self._rejection(route, error)
            self._metrics.rejected.labels(route.path, answer.kind).inc()
        self._metrics.requests.labels(route.path, str(answer.status)).inc()
        return answer

    def _rejection(self, route: Route, error: Exception) -> Rejected:
        """Return the answer to a request that raised an error, and log its cause."""
        if not isinstance(error, WattlogError):
            log.error("a fault of the listener", exc_info=error)
            return problems.to_rejection(WattlogError("internal"))
        if isinstance(error, Unavailable):
            self._rare_log(route, "unavailable").write(logging.WARNING, f"{route.path}: {error}")
        rejection = problems.to_rejection(error)
        if rejection.status == HTTPStatus.TOO_MANY_REQUESTS and route.grpc_method:
            rejection.status = 503  # OTLP's exporter for Python drops what gets 429.
        cause = type(error.__cause__).__name__ if error.__cause__ else rejection.kind
        if rejection.status in _MALFORMED:
            self._metrics.refusals.add(
                route.path, [ItemRefusal(f"a request: {rejection.log_text}", cause)], self._clock.monotonic_ms()
            )
        else:
            self._log_rejection(route, rejection)
        return rejection

    async def _admit(self, route: Route, request: Request) -> Reply:
        """Check the headers before the body is read, then handle the request as one of those in flight."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        hosts = [value for name, value in request.scope["headers"] if name == b"host"]
        if self._loopback and not names_loopback_only(hosts):
            raise Rejected(421, "misdirected", "The Host header names another machine; ask for localhost or 127.0.0.1.")
        caller = await self._verifier.admitted(headers, route.path)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in route.bodies:
            raise Rejected(
                415,
                "media-type",
                f"content-type: {problems.quote_value(content_type)}: send {' or '.join(route.bodies)}",
            )
        sender = sender_of(caller)
        self._delivery_queue.check_room()
        self._shares.check_room(sender)
        self._quotas.take_request(sender, self._clock.monotonic_ms())
        with self._shares.body(sender) as hold:
            body, packed = await self._body(request, headers, hold)
            sent = ReceivedRequest(body, content_type, headers, caller, self._clock.wall_ms())
            return await self._process(route, sent, packed=packed)

    async def _process(self, route: Route, sent: ReceivedRequest, *, packed: bool = False) -> Reply:
        """Parse a request, wait until the brokers have acknowledged its messages, and return the reply."""
        sender = sender_of(sent.caller)
        self._delivery_queue.check_room()
        with self._shares.request(sender):
            begun_ms = self._clock.monotonic_ms()
            name = memory_name(sent.caller)
            memory = self._memories.of(name)
            trial = DeduplicationTrial(*memory)
            sent, parsed, messages = await self._parsers.run(sender, self._parse, route, sent, trial, packed)
            self._quotas.take_rows(sender, sum(len(item.batch) for item in parsed.batches), begun_ms)
            with self._rates.counted(name, parsed.batches):
                await self._delivery_queue.send(
                    messages, self._limits.ack_s, trial.added, has_repeats=REPEATED in parsed.skipped,
                    changes=trial.changes, sender=name, memory=memory,
                )  # fmt: skip
        self._metrics.ack_seconds.observe((self._clock.monotonic_ms() - begun_ms) / 1000)
        self._metrics.rows.labels(route.path).inc(sum(len(item.batch) for item in parsed.batches))
        self._metrics.left_out.labels(route.path).inc(len(parsed.refused))
        for reason, rows in parsed.skipped.items():
            self._metrics.skipped.labels(route.path, reason).inc(rows)
        for reason, rows in parsed.corrected.items():
            self._metrics.corrected.labels(route.path, reason).inc(rows)
        self._metrics.refusals.add(route.path, parsed.refused, begun_ms)
        for note in parsed.notes:
            log.warning("%s: %s", route.path, note)
        return route.reply(sent, parsed)

    def _parse(
        self, route: Route, sent: ReceivedRequest, trial: DeduplicationTrial, packed: bool
    ) -> tuple[ReceivedRequest, ParsedRequest, list[Outgoing]]:
        """Return a request, unpacked, what its body says, and the messages of it. Runs in a thread."""
        if packed:
            sent = sent._replace(body=gunzip(sent.body, self._limits.body_bytes))
        sent = self._door.let_in(sent)
        try:
            parsed = route.parse(sent, trial)
        except WattlogError:
            raise
        except Exception as error:  # Of any class. The body may hold a prompt: the log must not quote it.
            detail = f"The body of {len(sent.body):,} bytes cannot be read ({type(error).__name__})."
            raise Rejected(400, "unreadable", detail) from error
        parsed = self._door.checked(sent, parsed)
        return sent._replace(body=b""), parsed, unnumbered_messages(route.kind, self._node, parsed.batches)

    async def _body(self, request: Request, headers: dict[str, str], hold: Callable[[int], None]) -> tuple[bytes, bool]:
        """Return the body and whether it is packed, and count its bytes with `hold`.

        Raises Rejected: 408 for one that is too slow, 413 too large, 415 in another encoding than gzip, 429 where too
        many bytes are under way.
        """
        max_bytes = self._limits.body_bytes
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise Rejected(415, "media-type", f"content-encoding: {problems.quote_value(encoding)}: send gzip or none")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > max_bytes:
            raise too_large(max_bytes)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.read_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > max_bytes:
                        raise too_large(max_bytes)
                    hold(len(chunk))
        except TimeoutError:
            raise Rejected(
                408, "too-slow", f"The request was not here within {self._limits.read_s:g} s; send less at once."
            ) from None
        return bytes(body), encoding == "gzip"

    def _rejected(self, route: Route, request: Request, error: Rejected) -> Response:
        self._metrics.rejected.labels(route.path, error.kind).inc()
        headers, body = problems.encode_problem(error, request.url.path)
        return Response(body, error.status, headers)

    def _log_rejection(self, route: Route, rejection: Rejected) -> None:
        """Log a request that may be accepted later or from another sender: the first at once, then one a minute."""
        text = f"{route.path}: refused with {rejection.status}: {rejection.log_text}"
        self._rare_log(route, rejection.kind).write(logging.WARNING, text)

    def _rare_log(self, route: Route, kind: str) -> RareLog:
        key = (route.path, kind)
        if key not in self._rare_logs:
            self._rare_logs[key] = RareLog(log, lambda: self._clock.monotonic_ms() / 1000)
        return self._rare_logs[key]

    def _counted(self, route: Route, response: Response) -> Response:
        self._metrics.requests.labels(route.path, str(response.status_code)).inc()
        return response


def sender_of(caller: Caller) -> str:
    """Return whose share of the bounds a request takes: that of its tenants, whatever their keys, or the gateway's."""
    return caller.name if caller.tenants is None else " ".join(sorted(caller.tenants))


def create_app(handler: RequestHandler, delivery_queue: DeliveryQueue, routes: Sequence[Route]) -> FastAPI:
    """Return the application: these routes, /healthz and /openapi.json."""
    app = FastAPI(
        title="Wattlog, events over HTTP", version="1", docs_url=None, redoc_url=None,
        description="Accepted means acknowledged by the brokers. Errors are RFC 9457 problems.",
    )  # fmt: skip

    def mount(route: Route) -> None:
        async def receive(request: Request) -> Response:
            return await handler.answer(route, request)

        content = {kind: {"schema": dict(schema)} for kind, schema in route.bodies.items()}
        app.add_api_route(
            route.path, receive, methods=["POST"], status_code=route.status, name=route.kind, response_class=Response,
            responses=_described(400, 401, 403, 408, 413, 415, 421, 422, 429, 503)
            | {route.status: {"description": "Accepted"}},
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )  # fmt: skip

    for route in routes:
        mount(route)

    @app.api_route("/healthz", methods=["GET", "HEAD"], include_in_schema=False)
    async def healthz() -> Response:
        if delivery_queue.failed:
            headers, body = problems.encode_problem(Rejected(503, "failed", str(delivery_queue.failed)), "/healthz")
            return Response(body, 503, headers)
        return JSONResponse({"status": "ok", "waiting_events": delivery_queue.waiting})

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
        detail = {404: "Nothing is here; /openapi.json lists what is.", 405: "This address takes other methods."}
        rejection = Rejected(error.status_code, kind, detail.get(error.status_code, str(error.detail)))
        headers, body = problems.encode_problem(rejection, request.url.path)
        return Response(body, error.status_code, headers | dict(error.headers or {}))

    return app


def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {problems.MEDIA_TYPE: {"schema": {"type": "object", "required": ["type", "title", "status", "detail"]}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
