"""`wattlog produce sql`: meters by SQL, from what queries of PostgreSQL or ClickHouse answer for each window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from contracts.errors import BadSetting
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.meters.sql import sql_query
from producers.meters.sql.config import SqlConfig
from producers.meters.window_query import WindowQuery, describe_results, window_queries


def build(options: SqlConfig, environment: Environment) -> list[WindowQuery]:
    """Build a source for each query. Raises BadSetting where there is none, or for an address of neither database."""
    if not (options.dsn and options.queries):
        raise BadSetting("produce.sql", options.dsn, "give `dsn` and at least one of [[produce.sql.queries]]")
    fetch = sql_query.opener(options.dsn, options.password.get_secret_value() if options.password else "")
    where = options.dsn.partition("://")[2].rpartition("@")[2]
    return window_queries("sql", options.queries, where, environment.settings.cluster, partial(sql_query.ask, fetch))


def check(options: SqlConfig, environment: Environment) -> Iterator[Finding]:
    """Yield what each query answers for the last window."""
    if options.dsn:
        yield from describe_results(build(options, environment), environment.clock)


def _build(options: SqlConfig, environment: Environment) -> Sequence[PolledSource]:
    return build(options, environment)


PLUGIN = Plugin(
    "sql", Kind.POLLED, "meters by SQL, from PostgreSQL or ClickHouse: what queries answer for each window", _build,
    SqlConfig, check,
)  # fmt: skip
