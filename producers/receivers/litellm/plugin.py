"""Route `/litellm` of `wattlog produce http`, by the options of `[produce.litellm]`."""

from __future__ import annotations

from producers.api import Environment, Kind, Plugin, Route
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import deployments_of
from producers.gateways.litellm.plugin import LiteLLMConfig
from producers.receivers.litellm.route import litellm_route


def build(options: LiteLLMConfig, environment: Environment) -> Route:
    """Build the route."""
    deployments = deployments_of(options.deployments, environment)
    return litellm_route(options.payload, deployments, max_ahead_ms(environment.settings))


PLUGIN = Plugin("litellm", Kind.ROUTE, "LiteLLM's generic_api", build, LiteLLMConfig)
