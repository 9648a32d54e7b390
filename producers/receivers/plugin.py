"""`wattlog produce http`: the listener for events over HTTP, and its route of CloudEvents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import WattlogError
from contracts.host_port import host_port
from producers import registry
from producers.api import Environment, Finding, Kind, Listener, Plugin, Route
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import deployments_of
from producers.receivers.cloudevents.events import RequestEvents, cloudevents_route
from producers.receivers.cloudevents.meter_rules import MeterRule, MeterRules
from producers.receivers.cloudevents.request_rules import RequestRule, RequestRules
from producers.receivers.request_options import RequestsConfig, reader_of
from producers.runtime.config import ProducerConfig, load_options
from producers.runtime.receiver.auth import Verifier, check_exposure
from producers.runtime.receiver.door import SenderRule
from producers.runtime.receiver.routes import open_routes
from producers.servers.token_limits import DEFAULT_GPUS, PER_GPU

DEFAULT_TOKENS_PER_S = max(PER_GPU.values()) * DEFAULT_GPUS
"""What a node of the fastest GPUs cannot exceed."""


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class HttpConfig(ProducerConfig):
    """Options of `wattlog produce http`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_HTTP_")
    name: ClassVar[str] = "http"
    host: str = Field("127.0.0.1", description="Address to listen on. Other than loopback needs `jwt_key`.")
    port: int = Field(8788, ge=0, le=65_535, description="Port to listen on; 0 picks a free one.")
    grpc_port: int | None = Field(
        None, ge=0, le=65_535, description="Port of OTLP over gRPC: 4317 by custom; 0 picks a free one; empty: none."
    )
    jwt_key: SecretStr | None = Field(
        None,
        description="Key that verifies bearer tokens: HS256 secret of 32 bytes or more, or the PEM of a public key for "
        "RS256 or ES256. Without one: the setting `api_jwt_key`.",
    )
    accepted_status: Annotated[Literal[202, 204], BeforeValidator(_number)] = Field(
        202, description="Status of an accepted request; OpenMeter's Python client requires 204."
    )
    workload: str = Field(
        "external", min_length=1, max_length=253, description="Workload of events whose meter names none."
    )
    meters: tuple[MeterRule, ...] = Field((), description="Quantities that CloudEvents are counted as, by their type.")
    requests: tuple[RequestRule, ...] = Field(
        (), description="CloudEvents that are requests of a model, by their type: they bear energy."
    )
    senders: tuple[SenderRule, ...] = Field(
        (), description="Workloads that a sender's requests may land on, by its credential's name."
    )
    max_tokens_per_s: int = Field(
        DEFAULT_TOKENS_PER_S, ge=1, le=10**12,
        description="Most tokens per second of one request, and of a sender on a workload; beyond, they are refused.",
    )  # fmt: skip
    max_requests_per_s: int = Field(
        500, ge=1, le=10**6, description="Requests of one sender per second, on average of 10 s; beyond, it gets 429."
    )
    max_rows_per_s: int = Field(
        20_000, ge=1, le=10**9, description="Rows of one sender per second, on average of 10 s; beyond, it gets 429."
    )
    unknown_types: Literal["count", "refuse"] = Field(
        "count", description="Events of a type without a meter: counted on one of that name, or refused."
    )
    max_events: int = Field(5_000, ge=1, le=100_000, description="CloudEvents of one request.")
    max_body_bytes: int = Field(16 * 2**20, ge=1_024, le=64 * 2**20, description="Bytes of one request, unpacked.")
    max_requests: int = Field(64, ge=1, le=10_000, description="Requests under way; beyond, clients get 429.")
    max_waiting: int = Field(
        10_000, ge=1, le=10_000_000, description="Events that the brokers have not acknowledged; beyond, 503."
    )
    ack_timeout_s: float = Field(
        10.0, ge=0.1, le=300, description="How long a request waits for the brokers before its client gets 503."
    )


def build(options: HttpConfig, environment: Environment) -> Listener:
    """Build the listener. Raises BadSetting for an unfit key, or none where a network can reach it."""
    key = options.jwt_key or environment.settings.api_jwt_key
    setting = "produce.http.jwt_key" if options.jwt_key else "api_jwt_key"
    verifier = Verifier(key.get_secret_value() if key else None, setting, environment.settings)
    check_exposure(options.host, verifier)
    return Listener(
        host=options.host,
        port=options.port,
        verifier=verifier,
        max_body_bytes=options.max_body_bytes,
        max_requests=options.max_requests,
        max_waiting=options.max_waiting,
        ack_timeout_s=options.ack_timeout_s,
        grpc_port=options.grpc_port,
        senders=options.senders,
        max_tokens_per_s=options.max_tokens_per_s,
        max_requests_per_s=options.max_requests_per_s,
        max_rows_per_s=options.max_rows_per_s,
    )


def build_route(options: HttpConfig, environment: Environment) -> Route:
    """Build the route of CloudEvents."""
    meters = MeterRules(options.meters, workload=options.workload, unknown=options.unknown_types)
    settings, requests = environment.settings, None
    if options.requests:
        posted = load_options(RequestsConfig)
        rules = RequestRules(options.requests, reader_of(posted, environment, "cloudevents"))
        requests = RequestEvents(rules, deployments_of(posted.deployments, environment))
    return cloudevents_route(
        meters, requests, cluster=settings.cluster, max_events=options.max_events, ahead_ms=max_ahead_ms(settings),
        accepted_status=options.accepted_status,
    )  # fmt: skip


def check(options: HttpConfig, environment: Environment) -> Iterator[Finding]:
    """Yield which routes it would serve to whom, or what is wrong; nothing where it is not configured."""
    if options == HttpConfig.model_construct() and not _has_routes():
        return
    where = host_port(options.host, options.port)
    try:
        listener = build(options, environment)
        routes = open_routes(environment)
    except WattlogError as error:
        yield where, error
        return
    clients = "anybody on this machine" if listener.verifier.open else "holders of a token"
    grpc = "" if options.grpc_port is None else f", and OTLP over gRPC at port {options.grpc_port},"
    yield where, f"takes {', '.join(route.path for route in routes)}{grpc} from {clients}"


def _has_routes() -> bool:
    """Return whether options of a route are given, other than those that a polled source reads too."""
    plugins = list(registry.plugins())
    polled = {plugin.options for plugin in plugins if plugin.kind is Kind.POLLED}
    options = {plugin.options for plugin in plugins if plugin.kind is Kind.ROUTE} - polled - {HttpConfig, None}
    return any(load_options(one) != one.model_construct() for one in options if one is not None)


PLUGIN = Plugin(
    "http", Kind.LISTENER, "events over HTTP: CloudEvents as OpenMeter takes them, OTLP traces, LiteLLM's generic_api",
    build, HttpConfig, check,
)  # fmt: skip
ROUTE = Plugin("cloudevents", Kind.ROUTE, "CloudEvents, as OpenMeter's clients send them", build_route, HttpConfig)
