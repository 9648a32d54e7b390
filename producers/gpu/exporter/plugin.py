"""`wattlog produce exporter`: a node's GPUs, through an exporter that runs there already."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, WattlogError
from producers.api import Environment, Finding, Kind, Plugin
from producers.common.http_client import Pages
from producers.gpu.exporter.sensor import KNOWN, ExporterSensor
from producers.runtime.config import ProducerConfig, without_secrets


class ExporterConfig(ProducerConfig):
    """Options of `wattlog produce exporter`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_EXPORTER_")
    name: ClassVar[str] = "exporter"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Of its page: http://10.0.0.5:9400/metrics.", pattern="^(https?://.+)?$"
    )
    kind: Literal["dcgm", "nvidia_gpu_exporter"] = Field("dcgm", description="Which exporter it is.")
    bearer: SecretStr | None = Field(None, description="Bearer token that it asks for.")


def build(options: ExporterConfig, environment: Environment) -> ExporterSensor:
    """Build the sensor of the configured page. Raises BadSetting where there is none."""
    if not options.url:
        raise BadSetting("produce.exporter.url", "", "say where its page is, such as http://10.0.0.5:9400/metrics")
    bearer = options.bearer.get_secret_value() if options.bearer else ""
    pages = environment.resources.enter_context(Pages(bearer=bearer))
    return ExporterSensor(KNOWN[options.kind], partial(pages.text, options.url))


def check(options: ExporterConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the GPUs on the configured page, or why it cannot be read."""
    if not options.url:
        return
    try:
        readings = build(options, environment).readings(environment.clock)
        counters = sum(reading.counter_mj is not None for reading in readings)
        yield options.url, f"{options.kind}: {len(readings)} GPUs, {counters} with an energy counter"
    except WattlogError as error:
        yield options.url, error


PLUGIN = Plugin(
    "exporter", Kind.GPU, "a node's GPUs, through DCGM exporter or nvidia_gpu_exporter where NVML is out of reach",
    build, ExporterConfig, check,
)  # fmt: skip
