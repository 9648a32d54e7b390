"""`wattlog produce exporter`: a node's GPUs, through an exporter that runs there already."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, WattlogError
from producers.api import Environment, Finding, Kind, Plugin
from producers.common.http_client import Pages
from producers.gpu.evidence import PageAgeCollector
from producers.gpu.exporter.sensor import ExporterSensor
from producers.gpu.exporter_formats import PRESETS, ExporterFormat, Quantity
from producers.runtime.config import ProducerConfig, without_secrets


class ExporterNames(BaseModel):
    """Any other exporter, by the names of its samples and labels. It needs energy, or power, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    energy: str = Field("", description="Sample of the energy counter.")
    energy_unit: Literal["uJ", "mJ", "J", "kJ", "Wh", "kWh"] = Field("J", description="Unit of the counter.")
    power: str = Field("", description="Sample of the power.")
    power_unit: Literal["mW", "W", "kW"] = Field("W", description="Unit of the power.")
    identity: tuple[str, ...] = Field(
        ("UUID", "uuid", "gpu_uuid", "serial_number", "gpu_id", "gpu"), min_length=1,
        description="Labels that tell GPUs apart; the first that a row has counts.",
    )  # fmt: skip
    hardware: str = Field("", description="Label that names the product.")
    kind: str = Field(
        "exporter", pattern="^[a-z][a-z0-9-]{0,30}$", description="Beginning of the source of its events."
    )

    @model_validator(mode="after")
    def _measures(self) -> Self:
        if not (self.energy or self.power):
            raise ValueError("give `energy` or `power`: the name of a sample")
        return self

    def to_format(self) -> ExporterFormat:
        return ExporterFormat(
            name=self.kind, identity=self.identity, hardware=("", *filter(None, [self.hardware])),
            energy=Quantity(self.energy, self.energy_unit) if self.energy else None,
            power=(Quantity(self.power, self.power_unit),) if self.power else (),
        )  # fmt: skip


class ExporterConfig(ProducerConfig):
    """Options of `wattlog produce exporter`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_EXPORTER_")
    name: ClassVar[str] = "exporter"
    url: Annotated[str, AfterValidator(without_secrets)] = Field(
        "", description="Of its page: http://10.0.0.5:9400/metrics.", pattern="^(https?://.+)?$"
    )
    kind: Literal["dcgm", "nvidia_gpu_exporter", "amd", "triton", "all_smi", "kepler", "names"] = Field(
        "dcgm", description="Which exporter it is; `names` for any other, by the names of its samples."
    )
    names: ExporterNames | None = Field(None, description="Names of the samples and labels, for the kind `names`.")
    bearer: SecretStr | None = Field(None, description="Bearer token that it asks for.")


def build(options: ExporterConfig, environment: Environment) -> ExporterSensor:
    """Build the sensor of the configured page. Raises BadSetting where there is none."""
    if not options.url:
        raise BadSetting("produce.exporter.url", "", "say where its page is, such as http://10.0.0.5:9400/metrics")
    bearer = options.bearer.get_secret_value() if options.bearer else ""
    pages = environment.resources.enter_context(Pages(bearer=bearer))
    sensor = ExporterSensor(_format(options), partial(pages.text, options.url))
    age = PageAgeCollector(
        lambda: sensor.page_age_ms(environment.clock.monotonic_ms()),
        cluster=environment.settings.cluster, node=environment.node, source=sensor.kind,
    )  # fmt: skip
    environment.metrics.register(age)
    return sensor


def _format(options: ExporterConfig) -> ExporterFormat:
    """Return the format of the configured kind. Raises BadSetting where `names` are missing, or are not used."""
    if (options.kind == "names") != (options.names is not None):
        hint = 'the table [produce.exporter.names] and kind = "names" need each other'
        raise BadSetting("produce.exporter.kind", options.kind, hint)
    return options.names.to_format() if options.names else PRESETS[options.kind]


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
    "exporter", Kind.GPU, "a node's GPUs, through DCGM exporter, nvidia_gpu_exporter, AMD's, all-smi, Kepler ...",
    build, ExporterConfig, check,
)  # fmt: skip
