"""OTLP over gRPC, beside HTTP: the routes that have a gRPC method.

grpcio is the reference implementation of the protocol. Its threads hand each call to the listener's event loop;
its own asyncio interface crashed when a second loop used it. Messages pass as bytes: a route decodes them as it does
over HTTP. An exporter tries again after UNAVAILABLE only, so everything that may be accepted later is that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from contracts.errors import BadSetting, Unavailable
from producers.api import Route
from producers.runtime.receiver.problems import Rejected
from producers.runtime.receiver.server import RequestHandler

_CODES: Mapping[int, str] = {
    401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 408: "UNAVAILABLE", 429: "UNAVAILABLE", 500: "INTERNAL",
    503: "UNAVAILABLE",
}  # fmt: skip
"""Names of gRPC's codes by the status over HTTP; any other status is INVALID_ARGUMENT."""
_NAMED_BYTES = 64 * 2**10
"""Bytes beyond the listener's bound that grpcio reads, so that the handler refuses such a message by name."""
THREADS = 64
"""Calls under way; further ones wait."""
MAX_CONNECTIONS, MAX_CALLS = 500, 16
"""Connections, and calls of one connection."""
_AGE_MS, _GRACE_MS = 30_000, 15_000
"""Age at which a client is told to connect again, and what its calls then have left: a call sent too slowly ends."""


class OtlpGrpcServer:
    """Server of the routes that have a gRPC method. Raises BadSetting where grpcio is not installed."""

    def __init__(self, handler: RequestHandler, routes: Sequence[Route], host: str, port: int) -> None:
        try:
            import grpc
        except ImportError as error:
            raise BadSetting(
                "produce.http", "grpc_port", f"needs {error.name}: pip install 'wattlog[ingest]'"
            ) from None
        self._grpc, self._handler = grpc, handler
        self._routes = {route.grpc_method: route for route in routes if route.grpc_method}
        self._address = f"{host}:{port}"
        self._threads = ThreadPoolExecutor(THREADS, "grpc")
        self._server: Any = None

    async def start(self) -> int:
        """Start beside the running event loop, and return the port. Raises Unavailable where it cannot listen."""
        grpc, loop = self._grpc, asyncio.get_running_loop()
        options = (
            ("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", self._handler.body_bytes + _NAMED_BYTES),
            ("grpc.max_concurrent_streams", MAX_CALLS), ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
            ("grpc.max_connection_age_ms", _AGE_MS), ("grpc.max_connection_age_grace_ms", _GRACE_MS),
        )  # fmt: skip
        self._server = grpc.server(self._threads, interceptors=[self._door(loop)], options=options)
        for method, route in self._routes.items():
            service, name = method.strip("/").rsplit("/", 1)
            handlers = {name: grpc.unary_unary_rpc_method_handler(self._method(route, loop))}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            await self.stop(0)
            raise Unavailable(
                f"cannot listen on {self._address} for gRPC: {error}", "Is the port taken? WATTLOG_HTTP_GRPC_PORT=0."
            ) from None
        self._server.start()
        return int(port)

    async def stop(self, within_s: float) -> None:
        """Take no more calls, and let those under way end within some seconds."""
        stopped = self._server.stop(within_s)
        await asyncio.to_thread(stopped.wait)
        await asyncio.to_thread(self._threads.shutdown)

    def _door(self, loop: asyncio.AbstractEventLoop) -> Any:
        """Return the interceptor that refuses a call before its message is read: a thread waits while it arrives."""
        grpc, handler = self._grpc, self._handler
        refusals = {
            name: grpc.stream_unary_rpc_method_handler(self._method(route, loop))
            for name, route in self._routes.items()
        }

        class Door(grpc.ServerInterceptor):  # type: ignore[misc, name-defined]
            def intercept_service(self, continuation: Callable[[Any], Any], call: Any) -> Any:
                if handler.admits(_headers(call.invocation_metadata)):
                    return continuation(call)
                return refusals.get(call.method) or continuation(call)

        return Door()

    def _method(self, route: Route, loop: asyncio.AbstractEventLoop) -> Callable[[Any, Any], bytes]:
        answer_call = self._handler.answer_call

        def export(body: bytes | Iterator[bytes], context: Any) -> bytes:
            content = body if isinstance(body, bytes) else b""  # Of a call that is refused, it is not read.
            headers = _headers(context.invocation_metadata())
            answer = asyncio.run_coroutine_threadsafe(answer_call(route, headers, content), loop).result()
            if isinstance(answer, Rejected):
                code = getattr(self._grpc.StatusCode, _CODES.get(answer.status, "INVALID_ARGUMENT"))
                if answer.retry_s is not None:
                    context.set_trailing_metadata([("grpc-status-details-bin", _retry_info(code, answer))])
                context.abort(code, answer.detail)
                raise AssertionError  # abort does not return.
            return answer.body

        return export


def _retry_info(code: Any, answer: Rejected) -> bytes:
    """Return a google.rpc.Status whose RetryInfo says when to try again, as OTLP has it.

    It is written by hand, because its classes are in a package that nothing else here needs.
    """
    delay = _field(1, _field(1, _varint(answer.retry_s or 0), kind=0))  # RetryInfo.retry_delay.seconds
    detail = _field(1, b"type.googleapis.com/google.rpc.RetryInfo") + _field(2, delay)
    return _field(1, _varint(code.value[0]), kind=0) + _field(2, answer.detail.encode()) + _field(3, detail)


def _field(number: int, content: bytes, kind: int = 2) -> bytes:
    """Return a field in protobuf: a number of kind 0, or bytes of kind 2."""
    return bytes([number << 3 | kind]) + (_varint(len(content)) if kind == 2 else b"") + content


def _varint(number: int) -> bytes:
    more, low = number >> 7, number & 0x7F
    return bytes([low | 0x80]) + _varint(more) if more else bytes([low])


def _headers(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    return {name: value for name, value in metadata if isinstance(value, str)}
