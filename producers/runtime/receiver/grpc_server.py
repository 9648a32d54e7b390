"""OTLP over gRPC, beside HTTP: the routes that have a gRPC method.

grpcio is the reference implementation of the protocol. Its threads hand each call to the listener's event loop;
its own asyncio interface crashed when a second loop used it. Messages pass as bytes: a route decodes them as it does
over HTTP. An exporter tries again after UNAVAILABLE only, so everything that may be accepted later is that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
_CORE_MAX_BYTES = 65 * 2**20
"""Largest message that grpcio reads. The handler refuses those beyond the listener's own bound, by name."""
THREADS = 64
"""Calls under way; further ones wait."""


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
        options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _CORE_MAX_BYTES))
        self._server = grpc.server(self._threads, options=options)
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

    def _method(self, route: Route, loop: asyncio.AbstractEventLoop) -> Callable[[bytes, Any], bytes]:
        def export(body: bytes, context: Any) -> bytes:
            headers = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
            answer = asyncio.run_coroutine_threadsafe(self._handler.answer_call(route, headers, body), loop).result()
            if isinstance(answer, Rejected):
                code = getattr(self._grpc.StatusCode, _CODES.get(answer.status, "INVALID_ARGUMENT"))
                context.abort(code, answer.detail)
                raise AssertionError  # abort does not return.
            return answer.body

        return export
