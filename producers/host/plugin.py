"""`wattlog produce host`: energy of a node's CPUs and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, Unavailable, WattlogError
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.common.zeusd_address import Address
from producers.host.pm_counters import MAX_NODE_W, NODE, PmCounters
from producers.host.rapl import POWERCAP, PSYS, RaplCounters
from producers.host.source import HostCounters, HostEnergySource
from producers.runtime.clock import boot_id
from producers.runtime.config import ProducerConfig
from producers.runtime.refusals import at_place


class HostConfig(ProducerConfig):
    """Options of `wattlog produce host`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_HOST_")
    name: ClassVar[str] = "host"
    powercap: Path = Field(POWERCAP, description="The kernel's folder of RAPL zones.")
    zeusd: Address = Field("", description="Read them through zeusd instead: unix:///run/zeusd/zeusd.sock.")
    bearer: SecretStr | None = Field(None, description="Token that zeusd asks for: a JWT of the scope cpu-read.")
    pm_counters: Path | None = Field(
        None, description="Read HPE Cray's counters of the node instead: /sys/cray/pm_counters."
    )
    every_s: float = Field(10.0, ge=1, le=60, description="How often they are read.")
    max_zone_w: float = Field(1_000.0, ge=10, le=20_000, description="More watts than any zone draws.")

    @property
    def zone_limit_w(self) -> float:
        """`max_zone_w`; where it is not set and a zone is the whole node, more than a node draws."""
        return MAX_NODE_W if self.pm_counters and "max_zone_w" not in self.model_fields_set else self.max_zone_w


def counters(options: HostConfig, environment: Environment) -> HostCounters:
    """Open the configured counters. Raises Unavailable where there are none."""
    if options.pm_counters and options.zeusd:
        raise BadSetting("produce.host.pm_counters", str(options.pm_counters), "name it or `zeusd`, not both")
    if options.pm_counters:
        return PmCounters(options.pm_counters)
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
    if not isinstance(zones, PmCounters):  # Its first reading waits for the source's own, as it counts once a scan.
        zones.read()
    boot = boot_id() or f"since-{environment.clock.wall_ms()}"
    every_ms = round(1000 * options.every_s)
    limit_w = options.zone_limit_w
    return [HostEnergySource(zones, environment.settings.cluster, environment.node, boot, every_ms, limit_w)]


def check(options: HostConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the zones of a host that is configured, or why they cannot be read."""
    if not options.model_fields_set:
        return
    where = options.zeusd or str(options.pm_counters or options.powercap)
    try:
        source = counters(options, environment)
        counters_uj, failures = source.read()
    except WattlogError as error:
        yield where, error
        return
    sums = [zone for zone in (PSYS, NODE) if zone in counters_uj]
    apart = "".join(f" ({zone} holds the others: never add it to them)" for zone in sums)
    yield where, f"{source.source}: {', '.join(sorted(counters_uj))}{apart}"
    for zone, reason in failures.items():
        yield zone, Unavailable(at_place(zone, reason), "The other zones are read.")


PLUGIN = Plugin(
    "host", Kind.POLLED, "energy of this node's CPUs and memory (RAPL, zeusd's, HPE's pm_counters), apart from GPUs",
    build, HostConfig, check,
)  # fmt: skip
