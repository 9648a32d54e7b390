"""`wattlog produce accesslog`: requests from a gateway's access log, until a signal says stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from prometheus_client import CollectorRegistry
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, WattlogError
from contracts.settings import Settings
from producers.gateways.accesslog.source import AccessLog
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.request_fields import RequestFields, RequestReader
from producers.runtime.clock import SystemClock
from producers.runtime.config import ProducerConfig, load
from producers.runtime.poll_loop import Collector, Metrics
from producers.runtime.runner import outbox, serve_metrics


class AccessLogConfig(ProducerConfig):
    """Options of `wattlog produce accesslog`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_ACCESSLOG_")
    name: ClassVar[str] = "accesslog"
    path: Path | None = Field(None, description="The file that the gateway appends to.")
    begin: Literal["start", "end"] = Field("end", description="Where a log that was never read is read from.")
    every_s: float = Field(1.0, ge=0.1, le=3600, description="How often it is looked at.")
    fields: RequestFields = Field(default_factory=RequestFields, description="What its fields are called.")
    deployments: tuple[Deployment, ...] = Field((), description="Which workload serves what; the first match wins.")


def access_log(settings: Settings, config: AccessLogConfig) -> AccessLog:
    """The configured log. Raises BadSetting where there is none."""
    if config.path is None:
        raise BadSetting("produce.accesslog.path", "", "say which file the gateway appends to")
    return AccessLog(
        config.path.absolute(), RequestReader(config.fields), Deployments(config.deployments, settings.cluster),
        every_ms=round(1000 * config.every_s), begin=config.begin,
    )  # fmt: skip


def produce_accesslog(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Follows the configured log until `stop`. `config` overrides Kafka client properties."""
    source, registry = access_log(settings, load(AccessLogConfig)), CollectorRegistry()
    serve_metrics(settings, registry)
    with outbox(settings, "accesslog", config) as (spool, delivery):
        Collector([source], delivery, SystemClock(stop), spool.marks(), Metrics(registry)).run()


def check_accesslog(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: what a look at the log's first lines gives, or why it cannot be read."""
    told = load(AccessLogConfig)
    if told.path is None:
        return
    source = access_log(settings, told.model_copy(update={"begin": "start"}))
    try:
        found = source.collect(None, SystemClock(threading.Event()))
    except WattlogError as error:
        yield source.name, error
        return
    rows = sum(len(made.batch) for made in found.made)
    if found.refused:
        yield source.name, BadSetting("produce.accesslog.fields", source.name, f"cannot be read so: {found.refused[0]}")
    else:
        places = ", ".join(sorted(made.workload for made in found.made)) or "none yet"
        yield source.name, f"{rows} requests in its first megabyte, of {places}"
