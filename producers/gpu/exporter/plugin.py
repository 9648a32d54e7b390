"""`wattlog produce exporter`: a node's GPUs through the exporter that is there, until a signal says stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, WattlogError
from contracts.settings import Settings
from producers.common.http_client import Pages
from producers.gpu.exporter.sensor import KNOWN, ExporterSensor
from producers.runtime.clock import SystemClock
from producers.runtime.config import ProducerConfig, load, without_secrets
from producers.runtime.runner import run_agent


class ExporterConfig(ProducerConfig):
    """Options of `wattlog produce exporter`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_EXPORTER_")
    name: ClassVar[str] = "exporter"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Of its page: http://10.0.0.5:9400/metrics.", pattern="^(https?://.+)?$"
    )
    kind: Literal["dcgm", "nvidia_gpu_exporter"] = Field("dcgm", description="Which exporter it is.")
    bearer: SecretStr | None = Field(None, description="Bearer token that it asks for.")


def exporter_page(config: ExporterConfig, pages: Pages) -> ExporterSensor:
    """The configured exporter. Raises BadSetting where there is none."""
    if not config.url:
        raise BadSetting("produce.exporter.url", "", "say where its page is, such as http://10.0.0.5:9400/metrics")
    return ExporterSensor(KNOWN[config.kind], partial(pages.text, config.url))


def produce_exporter(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Meters the GPUs of the exporter's page until `stop`. `config` overrides Kafka client properties."""
    told = load(ExporterConfig)
    with _pages(told) as pages:
        sensor = exporter_page(told, pages)
        gpus = [r.gpu_uuid for r in sensor.readings(SystemClock(stop))]
        run_agent(settings, stop, exporter_page(told, pages), gpus, told.kind, config)


def check_exporter(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: the GPUs on the page, or why it cannot be read."""
    told = load(ExporterConfig)
    if not told.url:
        return
    with _pages(told) as pages:
        try:
            readings = exporter_page(told, pages).readings(SystemClock(threading.Event()))
            counters = sum(r.counter_mj is not None for r in readings)
            yield told.url, f"{told.kind}: {len(readings)} GPUs, {counters} with an energy counter"
        except WattlogError as error:
            yield told.url, error


def _pages(config: ExporterConfig) -> Pages:
    return Pages(bearer=config.bearer.get_secret_value() if config.bearer else "")
