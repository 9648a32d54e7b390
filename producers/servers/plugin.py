"""`wattlog produce servers`: the counters of inference servers, as configured, until a signal says stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, ClassVar

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting
from contracts.settings import Settings
from producers.common.http_client import Pages
from producers.runtime.clock import SystemClock
from producers.runtime.config import ProducerConfig, load, without_secrets
from producers.runtime.poll_loop import Collector, Metrics
from producers.runtime.runner import outbox, serve_metrics
from producers.servers.kinds import KNOWN
from producers.servers.provider import InferenceMetricsProvider, NamedCounters
from producers.servers.scrape import ServedWorkload, ServerSource

Several = Annotated[tuple[str, ...], Field(min_length=1)]


class OwnNames(BaseModel):
    """A server that Wattlog does not know, by the names of its counters; of several, the first on the page counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    prompt: Several
    completion: Several
    cached: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    life_s: tuple[str, ...] = Field(
        (), description="Sums the seconds of finished requests, if tokens count at their finish."
    )
    failed: frozenset[str] = Field(frozenset(), description="Values of labels that mark a request as a failure.")
    model_labels: tuple[str, ...] = ("model_name", "model")


class At(BaseModel):
    """One server."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str = Field(description="Of its metrics: http://10.0.0.5:8000/metrics.")
    server: str = Field(description="What it is: vllm, sglang, tgi, trtllm, triton, or a name under `names`.")
    workload: str = Field(description="Workload that it serves: as the agents of its GPUs say.")
    tenant: str = Field("", description="Who pays for its tokens; empty: `tenant` of all.")
    cluster: str = Field("", description="Its cluster; empty: the setting `cluster`.")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("give an http:// or https:// address")
        return without_secrets(url)


class ServersConfig(ProducerConfig):
    """Options of `wattlog produce servers`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_SERVERS_")
    name: ClassVar[str] = "servers"
    at: tuple[At, ...] = Field((), description="The servers.")
    tenant: str = Field("", description="Who pays for tokens of servers that name no tenant of their own.")
    every_s: float = Field(10.0, ge=0.5, le=3600, description="How often each is read.")
    bearer: SecretStr | None = Field(None, description="Bearer token that the servers ask for.")
    names: dict[str, OwnNames] = Field(
        {}, description="Servers that Wattlog does not know, by the names of their counters."
    )


def servers(settings: Settings, config: ServersConfig, pages: Pages) -> Iterator[ServerSource]:
    """The configured servers as sources. Raises BadSetting for one that cannot be read as it is told."""
    if not config.at:
        raise BadSetting("produce.servers.at", [], "name at least one server: producers/servers/README.md has an example")
    seen: set[str] = set()
    for n, at in enumerate(config.at):
        tenant = at.tenant or config.tenant
        if not tenant:
            raise BadSetting(f"produce.servers.at.{n}.tenant", "", "say who pays: a server's counters name nobody")
        if at.url in seen:
            raise BadSetting(f"produce.servers.at.{n}.url", at.url, "name each server once")
        seen.add(at.url)
        serves = ServedWorkload(at.cluster or settings.cluster, at.workload, tenant)
        every_ms = round(1000 * config.every_s)
        yield ServerSource(_provider(config, n, at), at.url, serves, every_ms, partial(pages.text, at.url))


def _provider(config: ServersConfig, n: int, at: At) -> InferenceMetricsProvider:
    if (own := config.names.get(at.server)) is not None:
        return NamedCounters(name=at.server, **own.model_dump())
    if (known := KNOWN.get(at.server)) is not None:
        return known
    mend = f"use one of {', '.join(KNOWN)}, or a name under [produce.servers.names]"
    raise BadSetting(f"produce.servers.at.{n}.server", at.server, mend)


def produce_servers(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Reads the configured servers until `stop`. `config` overrides Kafka client properties."""
    told, registry = load(ServersConfig), CollectorRegistry()
    with Pages(bearer=_bearer(told)) as pages:
        sources = list(servers(settings, told, pages))
        serve_metrics(settings, registry)
        with outbox(settings, "servers", config) as (spool, delivery):
            Collector(sources, delivery, SystemClock(stop), spool.marks(), Metrics(registry)).run()


def check_servers(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: each configured server, and what it has served or why that cannot be read."""
    from contracts.errors import WattlogError
    from producers.common import prometheus_text

    told = load(ServersConfig)
    if not told.at:
        return
    with Pages(bearer=_bearer(told)) as pages:
        for server in servers(settings, told, pages):
            try:
                served = server.provider.served(prometheus_text.parse_page(server.fetch()))
                models = ", ".join(sorted(m or "its model" for m in served))
                yield server.name, f"{server.kind}: {models}" if served else f"no counters of {server.kind} on its page"
            except WattlogError as error:
                yield server.name, error


def _bearer(config: ServersConfig) -> str:
    return config.bearer.get_secret_value() if config.bearer else ""
