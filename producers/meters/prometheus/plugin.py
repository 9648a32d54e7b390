"""`wattlog produce prometheus`: meters by PromQL, from what queries answer for each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from contracts.errors import BadSetting
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.common.http_client import Pages
from producers.meters.prometheus import promql
from producers.meters.prometheus.config import PrometheusConfig
from producers.meters.window_query import WindowQuery, describe_results, window_queries


def build(options: PrometheusConfig, environment: Environment) -> list[WindowQuery]:
    """Build a source for each query. Raises BadSetting where there is none."""
    if not (options.url and options.queries):
        raise BadSetting(
            "produce.prometheus", options.url, "give `url` and at least one of [[produce.prometheus.queries]]"
        )
    bearer = options.bearer.get_secret_value() if options.bearer else ""
    pages = environment.resources.enter_context(Pages(timeout_s=30.0, bearer=bearer))
    url = f"{options.url.rstrip('/')}/api/v1/query"

    def fetch(query: str, time_s: float) -> tuple[int, str]:
        return pages.answer("POST", url, data={"query": query, "time": f"{time_s:.3f}"})

    where = options.url.partition("://")[2].rstrip("/")
    cluster = environment.settings.cluster
    return window_queries("prometheus", options.queries, where, cluster, partial(promql.ask, fetch))


def check(options: PrometheusConfig, environment: Environment) -> Iterator[Finding]:
    """Yield what each query answers for the last window."""
    if options.url:
        yield from describe_results(build(options, environment), environment.clock)


def _build(options: PrometheusConfig, environment: Environment) -> Sequence[PolledSource]:
    return build(options, environment)


PLUGIN = Plugin(
    "prometheus", Kind.POLLED, "meters by PromQL: what queries answer for each window", _build, PrometheusConfig, check
)
