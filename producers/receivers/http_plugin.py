"""`wattlog produce http`: listens for events, until a signal says stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Annotated, Any, ClassVar, Literal

from prometheus_client import CollectorRegistry
from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts import codec
from contracts.errors import BadSetting, Unavailable, WattlogError
from contracts.settings import Settings
from producers.receivers.cloudevents import events
from producers.receivers.cloudevents.meter_rules import MeterRule, MeterRules
from producers.receivers.litellm import route as litellm
from producers.receivers.otlp import route as otlp
from producers.runtime.clock import SystemClock
from producers.runtime.config import ProducerConfig, load
from producers.runtime.deduplication import Recent
from producers.runtime.delivery import Delivery
from producers.runtime.publisher import OnDelivery, Publisher, kafka_config
from producers.runtime.receiver.auth import Verifier, check_exposure
from producers.runtime.receiver.delivery_queue import Line
from producers.runtime.receiver.route import Intake
from producers.runtime.runner import node_name, serve_metrics
from producers.runtime.spool import Spool

log = logging.getLogger(__name__)

NAME = "http"
_FASTER: Mapping[str, Any] = {"linger.ms": 5, "client.id": "wattlog-http"}
"""Somebody waits for every message."""
_BLOCK_S = 1.0
MAX_CONNECTIONS = 2_000
"""Open at once, idle ones too; whoever comes then is told 503."""


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class HttpConfig(ProducerConfig):
    """Options of `wattlog produce http`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_HTTP_")
    name: ClassVar[str] = NAME
    host: str = Field("127.0.0.1", description="Address that it listens on. Other than loopback needs `jwt_key`.")
    port: int = Field(8788, ge=0, le=65_535, description="Port that it listens on; 0 picks a free one.")
    jwt_key: SecretStr | None = Field(
        None,
        description="Key that verifies bearer tokens: HS256 secret of 32 bytes or more, or the PEM of a public key for "
        "RS256 or ES256. Without one: the setting `api_jwt_key`.",
    )
    accepted_status: Annotated[Literal[202, 204], BeforeValidator(_number)] = Field(
        202, description="Status of what was accepted; OpenMeter's Python client insists on 204."
    )
    workload: str = Field(
        "external", min_length=1, max_length=253, description="Workload of events whose meter names none."
    )
    meters: tuple[MeterRule, ...] = Field((), description="What CloudEvents are counted as, by their type.")
    unknown_types: Literal["count", "refuse"] = Field(
        "count", description="Events of a type without a meter: counted on one of that name, or refused."
    )
    max_events: int = Field(5_000, ge=1, le=100_000, description="CloudEvents of one request.")
    max_body_bytes: int = Field(2**20, ge=1_024, le=64 * 2**20, description="Bytes of one request, unpacked.")
    max_requests: int = Field(64, ge=1, le=10_000, description="Requests under way; beyond, clients are told 429.")
    max_waiting: int = Field(
        10_000, ge=1, le=10_000_000, description="Events that the brokers have not acknowledged; beyond, 503."
    )
    ack_timeout_s: float = Field(
        10.0, ge=0.1, le=300, description="How long a request waits for the brokers before its client is told 503."
    )

    def verifier(self, settings: Settings) -> Verifier:
        """Reads its callers' tokens. Raises BadSetting for an unfit key, or none where a network can reach it."""
        own = self.jwt_key or settings.api_jwt_key
        setting = "produce.http.jwt_key" if self.jwt_key else "api_jwt_key"
        verifier = Verifier(own.get_secret_value() if own else None, setting)
        check_exposure(self.host, verifier)
        return verifier


def intakes(settings: Settings, config: HttpConfig, recent: Recent | None = None) -> Sequence[Intake]:
    """The routes that are served. `recent`: what has come lately."""
    meters = MeterRules(config.meters, workload=config.workload, unknown=config.unknown_types)
    recent = Recent() if recent is None else recent
    return (
        events.intake(
            meters, cluster=settings.cluster, max_events=config.max_events, ahead_ms=settings.skew_ms // 2,
            accepted_status=config.accepted_status,
        ),
        otlp.intake(settings, recent),
        litellm.intake(settings, recent),
    )  # fmt: skip


def produce_http(
    settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None,
    listening: Callable[[str], None] = lambda _: None,
) -> None:  # fmt: skip
    """Listens until `stop`, then answers what is under way, sends what it can, and leaves the rest on disk.

    `config` overrides Kafka client properties; `listening` is told the address. Raises BadSetting for what is not
    configured as it must be, Unavailable where it cannot listen or send any more.
    """
    _need_server()
    from producers.runtime.receiver.metrics import Metrics
    from producers.runtime.receiver.server import Bounds, Door, create_app

    told = load(HttpConfig)
    recent = Recent()
    verifier, routes = told.verifier(settings), intakes(settings, told, recent)
    clock, registry = SystemClock(stop), CollectorRegistry()
    metrics = Metrics(registry)
    bounds = Bounds(told.max_body_bytes, told.max_requests, ack_s=told.ack_timeout_s)
    line = Line(clock, max_waiting=told.max_waiting, on_resent=metrics.resent.inc, recent=recent)
    metrics.waiting.set_function(lambda: line.waiting)
    door = Door(line, verifier, bounds, metrics, clock, node=node_name(settings), host=told.host)
    with closing(_listen(told.host, told.port)) as listener, _sending(settings, line, recent, config):
        serve_metrics(settings, registry)
        host, port = listener.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("listening on %s", address)
        listening(address)
        _serve(create_app(door, line, routes), listener, stop, line, bounds.ack_s)
    if line.failed:
        raise line.failed


def check_http(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: whether it could listen, where it is configured."""
    told = load(HttpConfig)
    if told == HttpConfig.model_construct():
        return
    where = f"{told.host}:{told.port}"
    try:
        verifier = told.verifier(settings)
        routes = intakes(settings, told)
    except WattlogError as error:
        yield where, error
        return
    who = "anybody on this machine" if verifier.open else "holders of a token"
    yield where, f"takes {', '.join(route.path for route in routes)} from {who}"


class _Watched:
    """A publisher whose failing for good is told to the line: only a new client can go on."""

    def __init__(self, publisher: Publisher, line: Line) -> None:
        self._publisher, self._line = publisher, line
        self.poll = publisher.poll

    def send_raw(
        self, topic: str, key: bytes | None, headers: codec.Headers, value: bytes | None, *, timestamp_ms: int,
        on_delivery: OnDelivery,
    ) -> None:  # fmt: skip
        try:
            self._publisher.send_raw(topic, key, headers, value, timestamp_ms=timestamp_ms, on_delivery=on_delivery)
        except Unavailable as error:
            if error.lasting:
                self._line.fail(error)
            raise


@contextmanager
def _sending(
    settings: Settings, line: Line, recent: Recent, config: Mapping[str, object] | None
) -> Iterator[None]:  # fmt: skip
    """The line's spool, client and thread."""
    path = settings.data / "spool" / f"{NAME}.db"
    kafka = {**kafka_config(settings), **_FASTER, **(config or {})}
    with closing(Spool(path, max_bytes=settings.spool_mb * 2**20)) as spool, Publisher(kafka, block_s=_BLOCK_S) as sink:
        recent.load(spool.marks())
        delivery = Delivery(spool, _Watched(sink, line), on_done=line.done)
        line.start(delivery)
        try:
            yield
        finally:
            line.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), port), family=family, backlog=512)
    except OSError as error:
        raise Unavailable(
            f"cannot listen on {host}:{port}: {error}", "Is the port taken? WATTLOG_HTTP_PORT=0 picks a free one."
        ) from None


def _serve(app: Any, listener: socket.socket, stop: threading.Event, line: Line, ack_s: float) -> None:
    """Answers until `stop` is set or the line has failed; then what is under way may end."""
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn that leaves signals to whoever gave us `stop`, and looks at it at each of its ticks (0.1 s)."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def on_tick(self, counter: int) -> bool:
            self.should_exit = self.should_exit or stop.is_set() or line.failed is not None
            return bool(await super().on_tick(counter))

    options = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
        proxy_headers=False, timeout_graceful_shutdown=round(ack_s) + 5, limit_concurrency=MAX_CONNECTIONS,
    )  # fmt: skip
    asyncio.run(Server(options).serve(sockets=[listener]))


def _need_server() -> None:
    """Raises BadSetting where the libraries that listen are not installed: a node's agent has none of them."""
    try:
        import fastapi  # noqa: F401
        import jwt  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise BadSetting("produce", NAME, f"needs {error.name}: pip install 'wattlog[ingest]'") from None
