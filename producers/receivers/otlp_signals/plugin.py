"""Routes `/v1/metrics` and `/v1/logs` of `wattlog produce http`, by the options of `[produce.otlp]`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting
from producers.api import Environment, Kind, Plugin, Route
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import Deployment, deployments_of
from producers.receivers.otlp_signals.call_events import CALL_EVENTS
from producers.receivers.otlp_signals.operation_details import DETAILS
from producers.receivers.otlp_signals.route import logs_route, metrics_route
from producers.receivers.otlp_signals.rules import SignalRules
from producers.receivers.otlp_signals.token_metrics import TOKEN_METRICS
from producers.runtime.config import ProducerConfig

EVENTS = (*CALL_EVENTS, DETAILS)
"""Events in logs that can count."""


class OtlpConfig(ProducerConfig):
    """Options of the routes of OTLP's metrics and logs."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_OTLP_")
    name: ClassVar[str] = "otlp"
    metrics: tuple[str, ...] = Field((), description="Metrics that count: " + ", ".join(TOKEN_METRICS) + ".")
    logs: tuple[str, ...] = Field((), description="Events in logs that count: " + ", ".join(EVENTS) + ".")
    rules: SignalRules = Field(
        default_factory=SignalRules, description="Services that count, who pays, and the session."
    )
    deployments: tuple[Deployment, ...] = Field(
        (), description="Rules that name the workload of a request; the first match wins."
    )

    @model_validator(mode="after")
    def _check_names(self) -> OtlpConfig:
        for option, names, known in (("metrics", self.metrics, TOKEN_METRICS), ("logs", self.logs, EVENTS)):
            for name in names:
                if name not in known:
                    raise ValueError(f"{option}: {name!r}: there are: {', '.join(known)}")
        products = {name.partition(".")[0] for name in self.logs}
        twice = [name for name in self.metrics if name.partition(".")[0] in products]
        if twice:
            raise ValueError(f"metrics: {twice[0]!r} counts what `logs` count: name one of the two")
        return self


def build_metrics(options: OtlpConfig, environment: Environment) -> Route:
    """Build the route of metrics."""
    deployments = deployments_of(options.deployments, environment)
    _need_protobuf()
    return metrics_route(options.rules, options.metrics, deployments, max_ahead_ms(environment.settings))


def build_logs(options: OtlpConfig, environment: Environment) -> Route:
    """Build the route of logs."""
    deployments = deployments_of(options.deployments, environment)
    _need_protobuf()
    return logs_route(options.rules, options.logs, deployments, max_ahead_ms(environment.settings))


def _need_protobuf() -> None:
    """Raise BadSetting if the messages of OTLP are not installed."""
    try:
        import opentelemetry.proto.collector.logs.v1.logs_service_pb2  # noqa: F401
    except ImportError as error:
        raise BadSetting("produce", "otlp", f"needs {error.name}: pip install 'wattlog[ingest]'") from None


METRICS = Plugin("otlp-metrics", Kind.ROUTE, "counters of tokens by OTLP over HTTP", build_metrics, OtlpConfig)
LOGS = Plugin("otlp-logs", Kind.ROUTE, "calls in logs by OTLP over HTTP", build_logs, OtlpConfig)
