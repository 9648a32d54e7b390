"""What `wattlog produce cgroups`, `kubelet`, `prometheus` and `sql` run, and how `wattlog doctor` looks at them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry

from contracts.errors import BadInput, BadSetting, Unavailable, WattlogError
from contracts.settings import Settings
from producers.common.http_client import Pages
from producers.meters.cgroups import cgroup_files
from producers.meters.cgroups.config import CgroupsConfig
from producers.meters.kubelet import stats_summary
from producers.meters.kubelet.config import KubeletConfig
from producers.meters.observations import ObservedSource
from producers.meters.prometheus import promql
from producers.meters.prometheus.config import PrometheusConfig, PromQuery
from producers.meters.sql import sql_query
from producers.meters.sql.config import SqlConfig, SqlQuery
from producers.meters.window_query import QueryRow, RowTemplate, WindowQuery
from producers.meters.windows import MeterSchedule
from producers.runtime.clock import SystemClock
from producers.runtime.config import load
from producers.runtime.poll_loop import Collector, Metrics, Source
from producers.runtime.runner import node_name, outbox, serve_metrics

Config = Mapping[str, object] | None
Found = tuple[str, Exception | str]


def _collect(settings: Settings, stop: threading.Event, name: str, sources: Sequence[Source], config: Config) -> None:
    registry = CollectorRegistry()
    serve_metrics(settings, registry)
    with outbox(settings, name, config) as (spool, delivery):
        Collector(sources, delivery, SystemClock(stop), spool.marks(), Metrics(registry)).run()


def cgroups_source(settings: Settings, told: CgroupsConfig) -> ObservedSource:
    """The node's cgroups. Raises BadSetting where nothing is to be looked at."""
    if not (told.groups or told.host):
        raise BadSetting("produce.cgroups.groups", [], "say which cgroups are whose, or set host = true")
    node = node_name(settings)
    seen = cgroup_files.CgroupReader(
        told.groups, node, root=told.root, proc=told.proc, host=told.host, interfaces=told.interfaces
    )
    return ObservedSource(cgroup_files.KIND, node, settings.cluster, node, round(1000 * told.every_s), seen.observe)


def produce_cgroups(settings: Settings, stop: threading.Event, *, config: Config = None) -> None:
    """Meters CPU, memory, storage and network of cgroups and of the node until `stop`."""
    _collect(settings, stop, "cgroups", [cgroups_source(settings, load(CgroupsConfig))], config)


def check_cgroups(settings: Settings) -> Iterator[Found]:
    """For `wattlog doctor`: how many cgroups are whose; nothing where none is configured."""
    told = load(CgroupsConfig)
    if told.groups:
        yield from _looked(cgroups_source(settings, told), settings)


def kubelet_source(settings: Settings, told: KubeletConfig, pages: Pages) -> ObservedSource:
    """The node's kubelet. Raises BadSetting where none is named."""
    if not told.url:
        raise BadSetting("produce.kubelet.url", "", "say where the kubelet is, such as https://NODE:10250")
    url = told.url.rstrip("/")
    seen = stats_summary.KubeletReader(told.rules, lambda: pages.text(f"{url}/stats/summary", _token(told)), url)
    return ObservedSource(
        stats_summary.KIND, url, settings.cluster, node_name(settings), round(1000 * told.every_s), seen.observe
    )


def _token(told: KubeletConfig) -> Mapping[str, str]:
    """Read each time: a service account's token is renewed in place."""
    if told.token_file is None or not told.url.startswith("https://"):
        return {}
    try:
        return {"Authorization": f"Bearer {told.token_file.read_text('ascii').strip()}"}
    except OSError as error:
        hint = "Mount a service account's token, or set `token_file`."
        raise Unavailable(f"{told.token_file} cannot be read: {error.strerror}", hint, lasting=True) from error


def _pages_of_kubelet(told: KubeletConfig) -> Pages:
    if told.ca_file is None:
        return Pages()
    try:
        return Pages(verify=ssl.create_default_context(cafile=str(told.ca_file)))
    except (OSError, ssl.SSLError) as error:
        raise BadSetting("produce.kubelet.ca_file", str(told.ca_file), f"cannot be read: {error}") from None


def produce_kubelet(settings: Settings, stop: threading.Event, *, config: Config = None) -> None:
    """Meters CPU, memory, storage and network of the node's pods until `stop`."""
    told = load(KubeletConfig)
    with _pages_of_kubelet(told) as pages:
        _collect(settings, stop, "kubelet", [kubelet_source(settings, told, pages)], config)


def check_kubelet(settings: Settings) -> Iterator[Found]:
    """For `wattlog doctor`: how many pods the kubelet shows."""
    told = load(KubeletConfig)
    if told.url:
        with _pages_of_kubelet(told) as pages:
            yield from _looked(kubelet_source(settings, told, pages), settings)


def _looked(source: ObservedSource, settings: Settings) -> Iterator[Found]:
    try:
        seen = source.observe(SystemClock(threading.Event()))
    except WattlogError as error:
        yield source.name, error
        return
    workloads = ", ".join(sorted({place.workload for place in seen.owners.values()})[:5])
    yield (
        source.name,
        f"{len(seen.snapshot.objects)} of {workloads or 'nobody'}" + "".join(f"; {n}" for n in seen.notes[:3]),
    )


def _question(
    settings: Settings, kind: str, n: int, asked: PromQuery | SqlQuery, where: str,
    ask: Callable[..., Iterator[QueryRow | BadInput]],
) -> WindowQuery:  # fmt: skip
    schedule = MeterSchedule(1000 * asked.every_s, 1000 * asked.offset_s)
    template = RowTemplate(
        asked.meter, asked.unit, f"{kind}://{where}/{n}", asked.cluster or settings.cluster, asked.workload,
        asked.tenant, asked.columns,
    )  # fmt: skip
    return WindowQuery(kind, asked.meter, schedule, partial(ask, asked.query, template))


def _once(kind: str, queries: Sequence[PromQuery | SqlQuery]) -> None:
    """Raises BadSetting for a meter that is there twice: its mark could not be told from the other's."""
    seen: set[str] = set()
    for n, asked in enumerate(queries):
        if asked.meter in seen:
            raise BadSetting(f"produce.{kind}.queries.{n}.meter", asked.meter, "give each query a meter of its own")
        seen.add(asked.meter)


def prometheus_sources(settings: Settings, told: PrometheusConfig, pages: Pages) -> list[WindowQuery]:
    """A source a query. Raises BadSetting where there is none."""
    if not (told.url and told.queries):
        raise BadSetting(
            "produce.prometheus", told.url, "give `url` and at least one of [[produce.prometheus.queries]]"
        )
    _once("prometheus", told.queries)
    url = f"{told.url.rstrip('/')}/api/v1/query"

    def fetch(query: str, time_s: float) -> tuple[int, str]:
        return pages.answer("POST", url, data={"query": query, "time": f"{time_s:.3f}"})

    ask = partial(promql.ask, fetch)
    where = told.url.partition("://")[2].rstrip("/")
    return [_question(settings, "prometheus", n, q, where, ask) for n, q in enumerate(told.queries)]


def _pages_of_prometheus(told: PrometheusConfig) -> Pages:
    return Pages(timeout_s=30.0, bearer=told.bearer.get_secret_value() if told.bearer else "")


def produce_prometheus(settings: Settings, stop: threading.Event, *, config: Config = None) -> None:
    """Meters what PromQL queries answer for each window until `stop`."""
    told = load(PrometheusConfig)
    with _pages_of_prometheus(told) as pages:
        _collect(settings, stop, "prometheus", prometheus_sources(settings, told, pages), config)


def check_prometheus(settings: Settings) -> Iterator[Found]:
    """For `wattlog doctor`: what each query answers for the last window."""
    told = load(PrometheusConfig)
    if told.url:
        with _pages_of_prometheus(told) as pages:
            yield from _asked(prometheus_sources(settings, told, pages))


def sql_sources(settings: Settings, told: SqlConfig) -> list[WindowQuery]:
    """A source a query. Raises BadSetting where there is none, or for an address that is neither database's."""
    if not (told.dsn and told.queries):
        raise BadSetting("produce.sql", told.dsn, "give `dsn` and at least one of [[produce.sql.queries]]")
    _once("sql", told.queries)
    fetch = sql_query.opener(told.dsn, told.password.get_secret_value() if told.password else "")
    where = told.dsn.partition("://")[2].rpartition("@")[2]
    return [_question(settings, "sql", n, q, where, partial(sql_query.ask, fetch)) for n, q in enumerate(told.queries)]


def produce_sql(settings: Settings, stop: threading.Event, *, config: Config = None) -> None:
    """Meters what SQL queries answer for each window until `stop`."""
    _collect(settings, stop, "sql", sql_sources(settings, load(SqlConfig)), config)


def check_sql(settings: Settings) -> Iterator[Found]:
    """For `wattlog doctor`: what each query answers for the last window."""
    told = load(SqlConfig)
    if told.dsn:
        yield from _asked(sql_sources(settings, told))


def _asked(sources: Sequence[WindowQuery]) -> Iterator[Found]:
    clock = SystemClock(threading.Event())
    for source in sources:
        try:
            found = source.collect(None, clock)
        except WattlogError as error:
            yield source.name, error
            continue
        rows = sum(len(made.batch) for made in found.made)
        yield (
            source.name,
            f"{rows} rows for the last window" + (f"; left out: {found.refused[0]}" if found.refused else ""),
        )
