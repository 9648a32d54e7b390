"""Runner of a listener: serves every registered route over HTTP and sends its events, until a signal says stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

from contracts import codec
from contracts.connection_bounds import HEAD_BYTES, KEEP_ALIVE_S, TURN_S, ConnectionBounds, bounded_protocol
from contracts.errors import BadSetting, Unavailable
from contracts.host_port import host_port
from producers.api import Environment, Listener
from producers.runtime.delivery import Broker, Delivery
from producers.runtime.metrics_server import serve_metrics
from producers.runtime.outbox import open_broker, open_claim_watch, open_spool
from producers.runtime.publisher import OnDelivery
from producers.runtime.rare_log import RareLog
from producers.runtime.receiver.delivery_queue import AFTER_REFUSAL_MS, DeliveryQueue
from producers.runtime.receiver.routes import open_routes
from producers.runtime.receiver.sender_memories import SenderMemories

if TYPE_CHECKING:
    from producers.runtime.receiver.grpc_server import OtlpGrpcServer

log = logging.getLogger(__name__)

_LOW_LATENCY: Mapping[str, Any] = {"linger.ms": 5, "client.id": "wattlog-http"}
"""Properties for low latency: a client waits for each message."""
_BLOCK_S = 1.0


def run_listener(name: str, listener: Listener, environment: Environment, kafka: Mapping[str, object]) -> None:
    """Listen until `stop`, then answer open requests, send what can be sent, and leave the rest on disk.

    The argument `on_listening` is called with the address. Raises BadSetting where the server's libraries are not
    installed, Unavailable where it cannot listen or can send no more.
    """
    _need_server()
    from producers.runtime.receiver.door import SenderRules
    from producers.runtime.receiver.grpc_server import OtlpGrpcServer
    from producers.runtime.receiver.metrics import ReceiverMetrics
    from producers.runtime.receiver.sender_quotas import Quota
    from producers.runtime.receiver.server import RequestHandler, RequestLimits, create_app

    routes = open_routes(environment)
    metrics = ReceiverMetrics(environment.metrics)
    memories = SenderMemories(
        now_ns=lambda: environment.clock.wall_ms() * 1_000_000, on_forgotten=_forgotten(metrics.forgotten)
    )
    metrics.memory.set_function(lambda: memories.size_bytes)
    limits = RequestLimits(listener.max_body_bytes, listener.max_requests, ack_s=listener.ack_timeout_s)
    delivery_queue = DeliveryQueue(
        environment.clock, max_waiting=listener.max_waiting, on_resent=metrics.resent.inc, memories=memories
    )
    metrics.waiting.set_function(lambda: delivery_queue.waiting)
    handler = RequestHandler(
        delivery_queue, listener.verifier, limits, metrics, environment.clock, memories, node=environment.node,
        host=listener.host,
        door=SenderRules(listener.senders, environment.settings.max_age_ms, listener.max_tokens_per_s),
        quota=Quota(listener.max_requests_per_s, listener.max_rows_per_s),
    )  # fmt: skip
    with (
        closing(_bind(listener.host, listener.port)) as sock,
        _sending(name, environment, delivery_queue, memories, kafka),
    ):
        serve_metrics(environment.settings, environment.metrics)
        host, port = sock.getsockname()[:2]
        address = f"http://{host_port(host, port)}"
        log.info("listening on %s", address)
        environment.arguments.get("on_listening", lambda _: None)(address)
        grpc = (
            None if listener.grpc_port is None else OtlpGrpcServer(handler, routes, listener.host, listener.grpc_port)
        )
        gc.collect()
        gc.freeze()  # The modules: no later collection visits them.
        _serve(
            create_app(handler, delivery_queue, routes),
            sock,
            environment,
            delivery_queue,
            grpc,
            read_s=limits.read_s,
            ack_s=limits.ack_s,
        )
    if delivery_queue.failed:
        raise delivery_queue.failed


def _forgotten(counter: Counter) -> Callable[[str], None]:
    """Return a function that counts and logs a sender that forgets its oldest calls, because memory is bounded."""
    rare_log = RareLog(log)

    def count(sender: str) -> None:
        counter.inc()
        rare_log.write(
            logging.WARNING,
            f"the memories of all senders are full, and {sender!r} has most in them: its oldest calls are forgotten, "
            "and count again if they are sent again",
        )

    return count


class _FailureWatch:
    """Publisher that reports a lasting failure to the delivery queue: only a new client could continue."""

    def __init__(self, publisher: Broker, delivery_queue: DeliveryQueue) -> None:
        self._publisher, self._delivery_queue = publisher, delivery_queue
        self.poll = publisher.poll

    def send_raw(
        self, topic: str, key: bytes | None, headers: codec.Headers, value: bytes | None, *, timestamp_ms: int,
        on_delivery: OnDelivery,
    ) -> None:  # fmt: skip
        try:
            self._publisher.send_raw(topic, key, headers, value, timestamp_ms=timestamp_ms, on_delivery=on_delivery)
        except Unavailable as error:
            if error.lasting:
                self._delivery_queue.fail(error)
            raise


@contextmanager
def _sending(
    name: str, environment: Environment, delivery_queue: DeliveryQueue, memories: SenderMemories,
    kafka: Mapping[str, object],
) -> Iterator[None]:  # fmt: skip
    """Open the queue's spool and client, and run its thread."""
    with (
        open_spool(environment.settings, name) as spool,
        open_broker(environment, {**_LOW_LATENCY, **kafka}, block_s=_BLOCK_S) as publisher,
        open_claim_watch(environment) as claims,
    ):
        memories.load(spool.checkpoints())
        delivery = Delivery(
            spool, _FailureWatch(publisher, delivery_queue), on_acknowledged=delivery_queue.acknowledge,
            clock=environment.clock, pause_ms=AFTER_REFUSAL_MS, claims=claims,
        )  # fmt: skip
        delivery_queue.start(delivery)
        try:
            yield
        finally:
            delivery_queue.close()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error}", "Is the port taken? WATTLOG_HTTP_PORT=0 picks a free one."
        ) from None


def _serve(
    app: Any, sock: socket.socket, environment: Environment, delivery_queue: DeliveryQueue,
    grpc: OtlpGrpcServer | None, *, read_s: float, ack_s: float,
) -> None:  # fmt: skip
    """Answer until the process is to stop or the queue has failed; then open requests may end."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    bounds = ConnectionBounds(read_s)
    sys.setswitchinterval(TURN_S)

    class Server(uvicorn.Server):
        """uvicorn that leaves signals to the caller, and looks at `stop` and at slow clients every 0.1 s."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def on_tick(self, counter: int) -> bool:
            self.should_exit = self.should_exit or environment.stop.is_set() or delivery_queue.failed is not None
            bounds.close_slow(self.server_state.connections, time.monotonic())
            return bool(await super().on_tick(counter))

    options = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
        proxy_headers=False, timeout_graceful_shutdown=round(ack_s) + 5, timeout_keep_alive=KEEP_ALIVE_S,
        http=bounded_protocol(H11Protocol, bounds), h11_max_incomplete_event_size=HEAD_BYTES,
    )  # fmt: skip

    async def serve() -> None:
        if grpc is None:
            await Server(options).serve(sockets=[sock])
            return
        port = await grpc.start()
        log.info("listening on port %d for OTLP over gRPC", port)
        environment.arguments.get("on_listening_grpc", lambda _: None)(port)
        try:
            await Server(options).serve(sockets=[sock])
        finally:
            await grpc.stop(ack_s)

    asyncio.run(serve())


def _need_server() -> None:
    """Raise BadSetting where the server's libraries are not installed: a node's agent has none of them."""
    try:
        import fastapi  # noqa: F401
        import jwt  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise BadSetting("produce", "http", f"needs {error.name}: pip install 'wattlog[ingest]'") from None
