"""`wattlog produce host`: energy of a node's CPUs and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import Unavailable, WattlogError
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.common.zeusd_address import Address
from producers.host.rapl import POWERCAP, PSYS, RaplCounters
from producers.host.source import HostCounters, HostEnergySource
from producers.runtime.clock import boot_id
from producers.runtime.config import ProducerConfig


class HostConfig(ProducerConfig):
    """Options of `wattlog produce host`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_HOST_")
    name: ClassVar[str] = "host"
    powercap: Path = Field(POWERCAP, description="The kernel's folder of RAPL zones.")
    zeusd: Address = Field("", description="Read them through zeusd instead: unix:///run/zeusd/zeusd.sock.")
    bearer: SecretStr | None = Field(None, description="Token that zeusd asks for: a JWT of the scope cpu-read.")
    every_s: float = Field(10.0, ge=1, le=60, description="How often they are read.")
    max_zone_w: float = Field(1_000.0, ge=10, le=20_000, description="More watts than any zone draws.")


def counters(options: HostConfig, environment: Environment) -> HostCounters:
    """Open the configured counters. Raises Unavailable where there are none."""
    if not options.zeusd:
        return RaplCounters(options.powercap)
    from producers.common.zeusd_client import ZeusdClient, connect
    from producers.host.zeusd import ZeusdHostCounters

    bearer = options.bearer.get_secret_value() if options.bearer else ""
    pages = environment.resources.enter_context(connect(options.zeusd, bearer))
    return ZeusdHostCounters(ZeusdClient(options.zeusd, pages), options.powercap)


def build(options: HostConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source. Raises Unavailable where its counters cannot be read at the start.

    Where nothing names this run of the machine, the producer's start does: then nothing is known of earlier use.
    """
    zones = counters(options, environment)
    zones.read()
    boot = boot_id() or f"since-{environment.clock.wall_ms()}"
    every_ms = round(1000 * options.every_s)
    return [HostEnergySource(zones, environment.settings.cluster, environment.node, boot, every_ms, options.max_zone_w)]


def check(options: HostConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the zones of a host that is configured, or why they cannot be read."""
    if not options.model_fields_set:
        return
    where = options.zeusd or str(options.powercap)
    try:
        source = counters(options, environment)
        counters_uj, failures = source.read()
    except WattlogError as error:
        yield where, error
        return
    apart = " (psys holds the packages: never add it to them)" if PSYS in counters_uj else ""
    yield where, f"{source.source}: {', '.join(sorted(counters_uj))}{apart}"
    for zone, reason in failures.items():
        yield zone, Unavailable(reason, "The other zones are read.")


PLUGIN = Plugin(
    "host", Kind.POLLED, "energy of this node's CPUs and memory (RAPL, or zeusd's), apart from GPUs", build, HostConfig,
    check,
)  # fmt: skip
