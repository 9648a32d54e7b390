"""Route `/v1/requests` of `wattlog produce http`, by the options of `[produce.requests]`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contracts.events import MAX_TEXT
from producers.api import Environment, Kind, Plugin, Route
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import Deployment, Deployments
from producers.receivers.requests.items import ItemReader
from producers.receivers.requests.route import requests_route
from producers.runtime.config import ProducerConfig


class RequestsConfig(ProducerConfig):
    """Options of the route `/v1/requests`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_REQUESTS_")
    name: ClassVar[str] = "requests"
    deployments: tuple[Deployment, ...] = Field(
        (), description="Rules that name the workload of a request; the first match wins."
    )
    tenant_header: str = Field(
        "", max_length=MAX_TEXT, description="Header in which a trusted proxy names the tenant; empty: none is read."
    )
    otherwise: str = Field(
        "", max_length=MAX_TEXT, description="Who pays for a request that names no tenant; empty: it is refused."
    )
    max_items: int = Field(10_000, ge=1, le=65_536, description="Requests of one body.")


def reader_of(options: RequestsConfig, environment: Environment) -> ItemReader:
    """Build the reader of items."""
    cluster = environment.settings.cluster
    places = [(rule.cluster or cluster, rule.workload) for rule in options.deployments]
    return ItemReader(cluster=cluster, places=places, tenant_header=options.tenant_header, otherwise=options.otherwise)


def build(options: RequestsConfig, environment: Environment) -> Route:
    """Build the route."""
    reader, deployments = (
        reader_of(options, environment),
        Deployments(options.deployments, environment.settings.cluster),
    )
    return requests_route(reader, deployments, max_items=options.max_items, ahead_ms=max_ahead_ms(environment.settings))


PLUGIN = Plugin("requests", Kind.ROUTE, "requests as plain JSON", build, RequestsConfig)
