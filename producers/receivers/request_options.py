"""Options `[produce.requests]`, of the route `/v1/requests` and of CloudEvents that are requests."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contracts.events import MAX_TEXT
from producers.api import Environment
from producers.gateways.deployments import Deployment
from producers.receivers.request_items import ItemReader
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


def reader_of(options: RequestsConfig, environment: Environment, sender: str) -> ItemReader:
    """Build the reader of items."""
    cluster = environment.settings.cluster
    places = [(rule.cluster or cluster, rule.workload) for rule in options.deployments]
    return ItemReader(
        cluster=cluster,
        places=places,
        tenant_header=options.tenant_header,
        otherwise=options.otherwise,
        sender=sender,
    )
