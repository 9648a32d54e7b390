"""Route `/v1/requests` of `wattlog produce http`, by the options of `[produce.requests]`."""

from __future__ import annotations

from producers.api import Environment, Kind, Plugin, Route
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import deployments_of
from producers.receivers.request_options import RequestsConfig, reader_of
from producers.receivers.requests.route import requests_route


def build(options: RequestsConfig, environment: Environment) -> Route:
    """Build the route."""
    reader, deployments = (
        reader_of(options, environment, "requests"),
        deployments_of(options.deployments, environment),
    )
    return requests_route(reader, deployments, max_items=options.max_items, ahead_ms=max_ahead_ms(environment.settings))


PLUGIN = Plugin("requests", Kind.ROUTE, "requests as plain JSON", build, RequestsConfig)
