"""`wattlog produce zeusd`: a node's GPUs through zeusd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, Unavailable, WattlogError
from producers.api import Environment, Finding, Kind, Plugin
from producers.common.zeusd_address import Address
from producers.common.zeusd_client import ZeusdClient, connect
from producers.gpu.zeusd.power_stream import PowerStream
from producers.gpu.zeusd.sensor import ZeusdSensor
from producers.runtime.config import ProducerConfig


class ZeusdConfig(ProducerConfig):
    """Options of `wattlog produce zeusd`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_ZEUSD_")
    name: ClassVar[str] = "zeusd"
    url: Address = Field("", description="Its socket or address: unix:///run/zeusd/zeusd.sock, http://10.0.0.5:4938.")
    bearer: SecretStr | None = Field(None, description="Token that it asks for: a JWT of the scope gpu-read.")
    uuids: dict[int, str] = Field({}, description="UUIDs of GPUs by zeusd's index, where nothing else tells them.")
    hardware: str = Field("", description="Product of GPUs that zeusd does not name (before 0.5).")
    stream: bool = Field(False, description="Whether GPUs without a counter are read from its stream of watts.")


def build(options: ZeusdConfig, environment: Environment, *, streams: bool = True) -> ZeusdSensor:
    """Build the sensor of the configured daemon. Raises BadSetting where there is none."""
    if not options.url:
        raise BadSetting("produce.zeusd.url", "", "say where it listens, such as unix:///run/zeusd/zeusd.sock")
    bearer = options.bearer.get_secret_value() if options.bearer else ""
    zeusd = ZeusdClient(options.url, environment.resources.enter_context(connect(options.url, bearer)))
    stream = PowerStream(zeusd, environment.clock, environment.stop) if options.stream and streams else None

    def uuids_by_pci() -> Mapping[str, str]:
        try:
            return environment.inventory().pci_addresses()
        except Unavailable:
            return {}

    return ZeusdSensor(
        zeusd, environment.node, uuids=options.uuids, hardware=options.hardware, by_pci=uuids_by_pci, stream=stream
    )


def check(options: ZeusdConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the GPUs of the configured daemon, or why they cannot be read."""
    if not options.url:
        return
    try:
        gpus = build(options, environment, streams=False)
        gpus.readings(environment.clock)
        counters = sum(how.evidence == "counter" for how in gpus.measured.values())
        named = sum(not uuid.startswith("zeusd-") for uuid in gpus.measured)
        yield options.url, f"{len(gpus.measured)} GPUs, {counters} with an energy counter, {named} with a UUID"
    except WattlogError as error:
        yield options.url, error


PLUGIN = Plugin("zeusd", Kind.GPU, "a node's GPUs, through ML.ENERGY's zeusd", build, ZeusdConfig, check)
