"""`wattlog produce zeusd`: a node's GPUs through zeusd, until a signal says stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, Unavailable, WattlogError
from contracts.settings import Settings
from producers.common.http_client import Pages
from producers.gpu.zeusd.address import Address
from producers.gpu.zeusd.client import ZeusdClient, connect
from producers.gpu.zeusd.power_stream import PowerStream
from producers.gpu.zeusd.sensor import ZeusdSensor
from producers.runtime.clock import SystemClock
from producers.runtime.config import ProducerConfig, load
from producers.runtime.runner import node_name, run_agent


class ZeusdConfig(ProducerConfig):
    """Options of `wattlog produce zeusd`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_ZEUSD_")
    name: ClassVar[str] = "zeusd"
    url: Address = Field("", description="Its socket or address: unix:///run/zeusd/zeusd.sock, http://10.0.0.5:4938.")
    bearer: SecretStr | None = Field(None, description="Token that it asks for: a JWT of the scope gpu-read.")
    uuids: dict[int, str] = Field({}, description="UUIDs of GPUs by zeusd's index, where nothing else tells them.")
    hardware: str = Field("", description="Product of GPUs that zeusd does not name (before 0.5).")
    stream: bool = Field(False, description="Whether GPUs without a counter are read from its stream of watts.")


def sensor(
    settings: Settings, config: ZeusdConfig, pages: Pages, stop: threading.Event, *, listens: bool = True
) -> ZeusdSensor:
    """The configured daemon's GPUs. Raises BadSetting where there is none."""
    if not config.url:
        raise BadSetting("produce.zeusd.url", "", "say where it listens, such as unix:///run/zeusd/zeusd.sock")
    zeusd = ZeusdClient(config.url, pages)
    stream = PowerStream(zeusd, SystemClock(stop), stop) if config.stream and listens else None
    return ZeusdSensor(
        zeusd, node_name(settings), uuids=config.uuids, hardware=config.hardware, by_pci=_driver_uuids, stream=stream
    )


def produce_zeusd(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Meters the GPUs of the configured zeusd until `stop`. `config` overrides Kafka client properties."""
    told = load(ZeusdConfig)
    with connect(told.url, _bearer(told)) as pages:
        gpus = sensor(settings, told, pages, stop)
        found = dict.fromkeys(reading.gpu_uuid for reading in gpus.readings(SystemClock(stop)))
        run_agent(settings, stop, gpus, list(found), "zeusd", config)


def check_zeusd(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: the GPUs of the daemon, or why they cannot be read."""
    told = load(ZeusdConfig)
    if not told.url:
        return
    with connect(told.url, _bearer(told)) as pages:
        try:
            stop = threading.Event()
            gpus = sensor(settings, told, pages, stop, listens=False)
            gpus.readings(SystemClock(stop))
            counters = sum(how.evidence == "counter" for how in gpus.measured.values())
            named = sum(not uuid.startswith("zeusd-") for uuid in gpus.measured)
            yield told.url, f"{len(gpus.measured)} GPUs, {counters} with an energy counter, {named} with a UUID"
        except WattlogError as error:
            yield told.url, error


def _bearer(config: ZeusdConfig) -> str:
    return config.bearer.get_secret_value() if config.bearer else ""


def _driver_uuids() -> Mapping[str, str]:
    """The driver's UUIDs by PCI address, where NVML is within reach."""
    from producers.gpu.nvml.sensor import uuids_by_pci

    try:
        return uuids_by_pci()
    except Unavailable:
        return {}
