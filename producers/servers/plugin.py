"""`wattlog produce servers`: the counters of inference servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, WattlogError
from producers import registry
from producers.api import Environment, Finding, Kind, Plugin, PolledSource, TokenCounters
from producers.common import prometheus_text
from producers.common.http_client import Pages
from producers.runtime.config import ProducerConfig, load_options, without_secrets
from producers.servers.scrape import ServedWorkload, ServerSource
from producers.servers.token_counters import NamedCounters

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
    server: str = Field(description="What it is: a server of `wattlog produce --list`, or a name under `names`.")
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


def servers(options: ServersConfig, environment: Environment) -> Iterator[ServerSource]:
    """Build a source for each configured server. Raises BadSetting for one that cannot be read as configured."""
    if not options.at:
        hint = "name at least one server: producers/servers/README.md has an example"
        raise BadSetting("produce.servers.at", [], hint)
    bearer = options.bearer.get_secret_value() if options.bearer else ""
    pages = environment.resources.enter_context(Pages(bearer=bearer))
    urls: set[str] = set()
    for n, at in enumerate(options.at):
        tenant = at.tenant or options.tenant
        if not tenant:
            raise BadSetting(f"produce.servers.at.{n}.tenant", "", "say who pays: a server's counters name nobody")
        if at.url in urls:
            raise BadSetting(f"produce.servers.at.{n}.url", at.url, "name each server once")
        urls.add(at.url)
        serves = ServedWorkload(at.cluster or environment.settings.cluster, at.workload, tenant)
        counters = _counters(options, n, at, environment)
        yield ServerSource(counters, at.url, serves, round(1000 * options.every_s), partial(pages.text, at.url))


def _counters(options: ServersConfig, n: int, at: At, environment: Environment) -> TokenCounters:
    """Return the counters of a server: by names of the options, else those of a registered plug-in."""
    if (own := options.names.get(at.server)) is not None:
        return NamedCounters(name=at.server, **own.model_dump())
    known = registry.names(Kind.SERVER)
    if at.server not in known:
        hint = f"use one of {', '.join(known)}, or a name under [produce.servers.names]"
        raise BadSetting(f"produce.servers.at.{n}.server", at.server, hint)
    plugin = registry.get(at.server, Kind.SERVER)
    counters: TokenCounters = plugin.factory(load_options(plugin.options), environment)
    return counters


def build(options: ServersConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the configured servers' sources."""
    return list(servers(options, environment))


def check(options: ServersConfig, environment: Environment) -> Iterator[Finding]:
    """Yield for each configured server the models that it serves, or why its page cannot be read."""
    if not options.at:
        return
    for server in servers(options, environment):
        try:
            served = server.counters.served(prometheus_text.parse_page(server.fetch()))
            models = ", ".join(sorted(m or "its model" for m in served))
            yield server.name, f"{server.kind}: {models}" if served else f"no counters of {server.kind} on its page"
        except WattlogError as error:
            yield server.name, error


PLUGIN = Plugin(
    "servers", Kind.POLLED, "inference servers' own counters: those below, others by name", build, ServersConfig, check
)  # fmt: skip
