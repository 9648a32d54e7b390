"""Route `/v1/traces` of `wattlog produce http`, by the options of `[produce.otel]`."""

from __future__ import annotations

from producers.api import Environment, Kind, Plugin, Route
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import deployments_of
from producers.gateways.otel.plugin import OtelConfig
from producers.receivers.otlp.route import otlp_route


def build(options: OtelConfig, environment: Environment) -> Route:
    """Build the route."""
    deployments = deployments_of(options.deployments, environment)
    return otlp_route(options.spans, deployments, max_ahead_ms(environment.settings))


PLUGIN = Plugin("otlp", Kind.ROUTE, "OpenTelemetry spans by OTLP over HTTP", build, OtelConfig)
