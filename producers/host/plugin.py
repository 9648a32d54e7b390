"""`wattlog produce host`: energy of a node's CPUs and memory, until a signal says stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from prometheus_client import CollectorRegistry
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import WattlogError
from contracts.settings import Settings
from producers.gpu.zeusd.address import Address
from producers.host.rapl import POWERCAP, PSYS, RaplCounters
from producers.host.source import HostCounters, HostEnergySource
from producers.runtime.clock import Clock, SystemClock, boot_id
from producers.runtime.config import ProducerConfig, load
from producers.runtime.poll_loop import Collector, Metrics
from producers.runtime.runner import node_name, outbox, serve_metrics


class HostConfig(ProducerConfig):
    """Options of `wattlog produce host`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_HOST_")
    name: ClassVar[str] = "host"
    powercap: Path = Field(POWERCAP, description="The kernel's folder of RAPL zones.")
    zeusd: Address = Field("", description="Read them through zeusd instead: unix:///run/zeusd/zeusd.sock.")
    bearer: SecretStr | None = Field(None, description="Token that zeusd asks for: a JWT of the scope cpu-read.")
    every_s: float = Field(10.0, ge=1, le=60, description="How often they are read.")
    max_zone_w: float = Field(1_000.0, ge=10, le=20_000, description="More watts than any zone draws.")


@contextmanager
def counters(config: HostConfig) -> Iterator[HostCounters]:
    """Where the configuration says that counters are. Raises Unavailable where there are none."""
    if not config.zeusd:
        yield RaplCounters(config.powercap)
        return
    from producers.gpu.zeusd.client import ZeusdClient, connect
    from producers.host.zeusd import ZeusdHostCounters

    with connect(config.zeusd, config.bearer.get_secret_value() if config.bearer else "") as pages:
        yield ZeusdHostCounters(ZeusdClient(config.zeusd, pages), config.powercap)


def host(settings: Settings, config: HostConfig, found: HostCounters, clock: Clock) -> HostEnergySource:
    """The configured host as a source. Where nothing names this run of the machine, the producer's start does: then
    nothing is known of what was used before it."""
    boot = boot_id() or f"since-{clock.wall_ms()}"
    every_ms = round(1000 * config.every_s)
    return HostEnergySource(found, settings.cluster, node_name(settings), boot, every_ms, config.max_zone_w)


def produce_host(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Meters the host until `stop`. `config` overrides Kafka client properties. Raises Unavailable where its counters
    cannot be read at the start."""
    told, registry, clock = load(HostConfig), CollectorRegistry(), SystemClock(stop)
    with counters(told) as found:
        found.read()  # A process that may not read them fails at once.
        serve_metrics(settings, registry)
        with outbox(settings, "host", config) as (spool, delivery):
            source = host(settings, told, found, clock)
            Collector([source], delivery, clock, spool.marks(), Metrics(registry)).run()


def check_host(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: the zones of a host that is configured or readable, or why they cannot be read."""
    told = load(HostConfig)
    where = told.zeusd or str(told.powercap)
    if not told.model_fields_set:
        return
    try:
        with counters(told) as found:
            zones = sorted(found.read().counters_uj)
    except WattlogError as error:
        yield where, error
        return
    apart = " (psys holds the packages: never add it to them)" if PSYS in zones else ""
    yield where, f"{found.source}: {', '.join(zones)}{apart}"
