"""The listener as an ASGI application: the same way for every `Route`, from the first byte to the acknowledgement.

FastAPI, as for the API: it routes, and describes the routes at /openapi.json. Bodies are read by us, because they are
bounded while they come in.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from contracts.bearer_tokens import is_loopback, names_loopback_only
from contracts.errors import Unavailable, WattlogError
from producers.api import ReceivedRequest, Reply, Route
from producers.runtime.clock import Clock
from producers.runtime.deduplication import DOUBLE, DeduplicationTrial, DeduplicationWindow
from producers.runtime.receiver import problems
from producers.runtime.receiver.auth import Verifier
from producers.runtime.receiver.delivery_queue import DeliveryQueue, ready
from producers.runtime.receiver.metrics import ReceiverMetrics
from producers.runtime.receiver.problems import Rejected
from producers.runtime.refusals import refusal

log = logging.getLogger(__name__)

_CLIENT_GONE = 499
"""nginx's word for a client that left; nobody reads it."""


class Bounds(NamedTuple):
    """Bounds of one request, and of the requests in flight."""

    body_bytes: int = 2**20
    requests: int = 64
    read_s: float = 10.0
    """From the first byte of a request to its last."""
    ack_s: float = 10.0


class RequestHandler:
    """Takes requests for intakes. One event loop."""

    def __init__(
        self, line: DeliveryQueue, verifier: Verifier, bounds: Bounds, metrics: ReceiverMetrics, clock: Clock,
        window: DeduplicationWindow, *, node: str, host: str,
    ) -> None:  # fmt: skip
        self._line, self._verifier, self._bounds, self._metrics, self._window = line, verifier, bounds, metrics, window
        self._clock, self._node, self._loopback = clock, node, is_loopback(host)
        self._in_flight = 0

    async def answer(self, intake: Route, request: Request) -> Response:
        """The answer to a request. Raises nothing: what is wrong is a problem, and counted."""
        try:
            reply = await self._admit(intake, request)
        except ClientDisconnect:
            self._metrics.rejected.labels(intake.path, "disconnected").inc()
            return self._counted(intake, Response(status_code=_CLIENT_GONE))
        except WattlogError as error:
            if isinstance(error, Unavailable):
                log.warning("%s: %s", intake.path, error)
            return self._counted(intake, self._rejected(intake, request, problems.of(error)))
        except Exception:
            log.exception("a fault of the listener")
            internal = problems.of(WattlogError("internal"))
            return self._counted(intake, self._rejected(intake, request, internal))
        return self._counted(intake, Response(reply.body, reply.status, media_type=reply.content_type or None))

    async def _admit(self, intake: Route, request: Request) -> Reply:
        """Check the headers before the body is read, then handle the request as one of those in flight."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        hosts = [value for name, value in request.scope["headers"] if name == b"host"]
        if self._loopback and not names_loopback_only(hosts):
            raise Rejected(421, "misdirected", "The Host header names another machine; ask for localhost or 127.0.0.1.")
        caller = self._verifier.caller(headers)
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in intake.bodies:
            raise Rejected(
                415, "media-type", f"content-type: {problems.shown(content_type)}: send {' or '.join(intake.bodies)}"
            )
        self._line.check_room()
        if self._in_flight >= self._bounds.requests:
            raise Rejected(
                429, "too-many-requests", f"{self._in_flight} requests are under way; send this again.", retry_s=1
            )
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            body = await self._body(request, headers)
            return await self._take(intake, ReceivedRequest(body, content_type, headers, caller, self._clock.wall_ms()))
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    async def _take(self, intake: Route, sent: ReceivedRequest) -> Reply:
        begun_ms = self._clock.monotonic_ms()
        trial = DeduplicationTrial(self._window)
        try:
            parsed = await run_in_threadpool(intake.parse, sent, trial)
        except WattlogError:
            raise
        except Exception as error:  # Of any class, for any body; nothing of it is repeated, for it may hold a prompt.
            size = f"a body of {len(sent.body):,} bytes"
            self._metrics.refusals.add(intake.path, [refusal(error, size)], begun_ms)
            raise Rejected(400, "unreadable", f"The body cannot be read ({type(error).__name__}).") from error
        items = await run_in_threadpool(ready, intake.kind, self._node, parsed.batches)
        await self._line.send(items, self._bounds.ack_s, trial.added, again=DOUBLE in parsed.skipped)
        self._metrics.ack_seconds.observe((self._clock.monotonic_ms() - begun_ms) / 1000)
        self._metrics.rows.labels(intake.path).inc(sum(len(item.batch) for item in items))
        self._metrics.left_out.labels(intake.path).inc(len(parsed.refused))
        for why, rows in parsed.skipped.items():
            self._metrics.skipped.labels(intake.path, why).inc(rows)
        self._metrics.refusals.add(intake.path, parsed.refused, begun_ms)
        for note in parsed.notes:
            log.warning("%s: %s", intake.path, note)
        return intake.reply(sent, parsed)

    async def _body(self, request: Request, headers: dict[str, str]) -> bytes:
        """The body, unpacked. Raises Rejected: 408 too slow, 413 too large, 415 packed otherwise than by gzip."""
        most = self._bounds.body_bytes
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise Rejected(415, "media-type", f"content-encoding: {problems.shown(encoding)}: send gzip or none")
        said = headers.get("content-length", "")
        if said.isdecimal() and int(said[:20]) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.read_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise _too_large(most)
        except TimeoutError:
            raise Rejected(
                408, "too-slow", f"The request was not here within {self._bounds.read_s:g} s; send less at once."
            ) from None
        return gunzip(bytes(body), most) if encoding == "gzip" else bytes(body)

    def _rejected(self, intake: Route, request: Request, error: Rejected) -> Response:
        self._metrics.rejected.labels(intake.path, error.kind).inc()
        headers, body = problems.answer(error, request.url.path)
        return Response(body, error.status, headers)

    def _counted(self, intake: Route, response: Response) -> Response:
        self._metrics.requests.labels(intake.path, str(response.status_code)).inc()
        return response


def create_app(door: RequestHandler, line: DeliveryQueue, intakes: Sequence[Route]) -> FastAPI:
    """The routes of these intakes, /healthz and /openapi.json."""
    app = FastAPI(
        title="Wattlog, events over HTTP", version="1", docs_url=None, redoc_url=None,
        description="Accepted means acknowledged by the brokers. Errors are RFC 9457 problems.",
    )  # fmt: skip

    def mount(intake: Route) -> None:
        async def take(request: Request) -> Response:
            return await door.answer(intake, request)

        content = {kind: {"schema": dict(schema)} for kind, schema in intake.bodies.items()}
        app.add_api_route(
            intake.path, take, methods=["POST"], status_code=intake.status, name=intake.kind, response_class=Response,
            responses=_described(400, 401, 403, 408, 413, 415, 421, 422, 429, 503)
            | {intake.status: {"description": "Accepted"}},
            openapi_extra={"requestBody": {"required": True, "content": content}},
        )  # fmt: skip

    for intake in intakes:
        mount(intake)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        if line.failed:
            headers, body = problems.answer(Rejected(503, "failed", str(line.failed)), "/healthz")
            return Response(body, 503, headers)
        return JSONResponse({"status": "ok", "waiting_events": line.waiting})

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        kind = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "http")
        detail = {404: "Nothing is here; /openapi.json lists what is.", 405: "This address takes other methods."}
        said = Rejected(error.status_code, kind, detail.get(error.status_code, str(error.detail)))
        headers, body = problems.answer(said, request.url.path)
        return Response(body, error.status_code, headers | dict(error.headers or {}))

    return app


def gunzip(packed: bytes, most: int) -> bytes:
    """Unpacks a body of at most `most` bytes, and never more. Raises Rejected."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(packed, most + 1)
    except zlib.error:
        raise Rejected(400, "not-gzip", "The body is not what its content-encoding says: gzip.") from None
    if len(body) > most:
        raise _too_large(most)
    if not unpacker.eof or unpacker.unused_data:
        raise Rejected(400, "not-gzip", "The body is not one whole gzip stream.")
    return body


def _too_large(most: int) -> Rejected:
    return Rejected(413, "too-large", f"A body has at most {most:,} bytes, unpacked; send several requests.")


def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {problems.MEDIA_TYPE: {"schema": {"type": "object", "required": ["type", "title", "status", "detail"]}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
