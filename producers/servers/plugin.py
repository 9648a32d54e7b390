"""`wattlog produce servers`: the counters of inference servers."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from contracts.errors import BadInput, BadSetting, WattlogError
from producers import registry
from producers.api import Environment, Finding, Kind, Plugin, PolledSource, TokenCounters
from producers.bindings.config import BindingsConfig
from producers.bindings.kubernetes.api_server import ApiClient
from producers.bindings.kubernetes.pod_watch import PodWatch
from producers.common import prometheus_text
from producers.common.http_client import Pages
from producers.common.time_limit import OverTimeError, TimeLimit
from producers.runtime.config import load, load_options
from producers.servers.config import At, OwnNames, PodsAt, Served, ServersConfig
from producers.servers.page_scrape import scrape_of
from producers.servers.pods import PodGroup, PodServers
from producers.servers.scrape import ServedWorkload, ServerSource
from producers.servers.server_identity import SEVERAL_HINT
from producers.servers.token_counters import NamedCounters
from producers.servers.token_limits import limit_of

__all__ = ["PLUGIN", "At", "OwnNames", "PodsAt", "ServersConfig", "servers"]

RESOLVE_S = 5.0
MAX_THREADS = 16
"""Pages of pods that are fetched at once."""


def servers(options: ServersConfig, environment: Environment) -> Iterator[ServerSource]:
    """Build a source for each server by address. Raises BadSetting for one that cannot be read as configured."""
    if not (options.at or options.pods):
        hint = "name at least one server: producers/servers/README.md has an example"
        raise BadSetting("produce.servers.at", [], hint)
    if not options.at:
        return
    pages = environment.resources.enter_context(_pages(options))
    limit = TimeLimit(RESOLVE_S)
    urls: set[str] = set()
    for n, at in enumerate(options.at):
        place = f"produce.servers.at.{n}"
        tenant = at.tenant or options.tenant
        if not tenant:
            raise BadSetting(f"{place}.tenant", "", "say who pays: a server's counters name nobody")
        name = f"{at.url}#{at.workload}" if at.models else at.url
        if name in urls or at.url in urls:
            raise BadSetting(
                f"{place}.url", at.url, "name each server once, or once for each workload with its `models`"
            )
        urls.add(name)
        serves = ServedWorkload(at.cluster or environment.settings.cluster, at.workload, tenant, at.count)
        yield ServerSource(
            counters_of(options, place, at, environment), name, serves, every_ms=round(1000 * options.every_s),
            fetch=partial(pages.text, at.url), limit=limit_at(options, place, at),
            addresses=partial(addresses_of, at.url, limit), models=at.models,
        )  # fmt: skip


def pod_servers(options: ServersConfig, environment: Environment) -> PodServers | None:
    """Build the source of servers in pods, None without any. Its watches run until the process ends."""
    if not options.pods:
        return None
    bindings = load(BindingsConfig)
    client = ApiClient(bindings.api, bindings.token, bindings.ca)
    groups = []
    for n, pods in enumerate(options.pods):
        place, node = f"produce.servers.pods.{n}", environment.node if pods.this_node else ""
        watch = PodWatch(client, pods.namespace, selector=pods.selector, service=pods.service, node=node)
        groups.append(
            PodGroup(
                f"{pods.name}@{node}" if node else pods.name, environment.resources.enter_context(watch).view,
                counters_of(options, place, pods, environment), limit_at(options, place, pods),
                cluster=pods.cluster or environment.settings.cluster, port=pods.port, path=pods.path,
                scheme=pods.scheme, workload=pods.workload, tenant=pods.tenant or options.tenant, count=pods.count,
            )
        )  # fmt: skip
    pages = environment.resources.enter_context(_pages(options))
    executor = ThreadPoolExecutor(MAX_THREADS, "pods")
    environment.resources.callback(executor.shutdown, wait=False, cancel_futures=True)
    return PodServers(
        groups, bindings.labels, bindings.tenant_from, every_ms=round(1000 * options.every_s), fetch=pages.text,
        executor=executor, other_urls={at.url for at in options.at},
    )  # fmt: skip


def _pages(options: ServersConfig) -> Pages:
    """Return the client: a new connection for each reading, so that a Service shows that it is one."""
    return Pages(bearer=options.bearer.get_secret_value() if options.bearer else "", keep_alive=False)


def limit_at(options: ServersConfig, place: str, served: Served) -> int:
    """Return the most tokens per second of a server. Raises BadSetting for a type of GPU without a figure."""
    try:
        return limit_of(served.gpu, served.gpus, options.max_tokens_per_s)
    except BadInput as error:
        raise BadSetting(f"{place}.gpu", served.gpu, error.fix) from None


def addresses_of(url: str, limit: TimeLimit) -> set[str]:
    """Return the IP addresses of a URL's host, of the family that has more; none where they cannot be looked up.

    A machine has one of each family. A name with several of one family is a headless Service, or a round robin.
    """
    host = urlsplit(url).hostname or ""
    try:
        answers = limit.run(host, partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError, OverTimeError):
        return set()  # Reading the page fails, too, and says why; behind a proxy the name may be unknown here.
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, address in answers:
        by_family.setdefault(family, set()).add(str(address[0]))
    return max(by_family.values(), key=len, default=set())


def counters_of(options: ServersConfig, place: str, served: Served, environment: Environment) -> TokenCounters:
    """Return the counters of a server: by names of the options, else those of a registered plug-in."""
    counters: TokenCounters
    if (own := options.names.get(served.server)) is not None:
        counters = NamedCounters(name=served.server, **own.model_dump())
    else:
        known = registry.names(Kind.SERVER)
        if served.server not in known:
            hint = f"use one of {', '.join(known)}, or a name under [produce.servers.names]"
            raise BadSetting(f"{place}.server", served.server, hint)
        plugin = registry.get(served.server, Kind.SERVER)
        counters = plugin.factory(load_options(plugin.options), environment)
    if not served.tenant_labels:
        return counters
    if not isinstance(counters, NamedCounters):
        raise BadSetting(
            f"{place}.tenant_labels", list(served.tenant_labels), "this server's reader has its own labels"
        )
    return replace(counters, tenant_labels=served.tenant_labels)


def build(options: ServersConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the configured servers' sources."""
    pods = pod_servers(options, environment)
    return [*servers(options, environment), *([pods] if pods else [])]


def check(options: ServersConfig, environment: Environment) -> Iterator[Finding]:
    """Yield for each configured server the models that it serves, or why its page cannot be read."""
    if not (options.at or options.pods):
        return
    for server in servers(options, environment):
        try:
            if len(addresses := server.addresses()) > 1:
                yield (
                    server.name,
                    BadInput("url", server.name, f"it stands for {len(addresses)} addresses: {SEVERAL_HINT}"),
                )
                continue
            page = prometheus_text.parse_page(server.fetch())
            scrape = scrape_of(server.counters, server.name, page, environment.clock.wall_ms())
            models = ", ".join(sorted({s.model or "its model" for s in scrape.series}))
            yield server.name, f"{server.kind}: {models}"
        except WattlogError as error:
            yield server.name, error
    if (pods := pod_servers(options, environment)) is not None:
        yield from pods.findings(environment.clock)


PLUGIN = Plugin(
    "servers", Kind.POLLED, "inference servers' own counters: those below, others by name", build, ServersConfig, check
)  # fmt: skip
