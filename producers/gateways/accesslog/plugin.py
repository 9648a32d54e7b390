"""`wattlog produce accesslog`: requests from a gateway's access log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting, WattlogError
from contracts.units import counted
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.gateways.accesslog.lines import LineReader
from producers.gateways.accesslog.presets import PRESETS, line_rules
from producers.gateways.accesslog.source import AccessLog
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import Deployment, deployments_of
from producers.gateways.request_fields import RequestFields
from producers.runtime.config import ProducerConfig


class AccessLogConfig(ProducerConfig):
    """Options of `wattlog produce accesslog`."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_ACCESSLOG_")
    name: ClassVar[str] = "accesslog"
    path: Path | None = Field(None, description="File that the gateway appends to.")
    begin: Literal["start", "end"] = Field("end", description="Where to start in a log that was never read.")
    every_s: float = Field(1.0, ge=0.1, le=3600, description="Seconds between two reads.")
    preset: str = Field("", description="Gateway whose names of fields are meant: " + ", ".join(PRESETS) + ".")
    fields: RequestFields = Field(
        default_factory=RequestFields, description="Names of its fields, in place of the preset's."
    )
    only: Mapping[str, tuple[str, ...]] = Field(
        {}, description="Lines that count: patterns of a field's value by the field's path; empty: all."
    )
    otherwise: str = Field("", description="Who pays for a line that names no tenant; empty: such lines are refused.")
    deployments: tuple[Deployment, ...] = Field(
        (), description="Rules that name the workload of a request; the first match wins."
    )

    @field_validator("preset")
    @classmethod
    def _check_preset(cls, preset: str) -> str:
        if preset and preset not in PRESETS:
            raise ValueError(f"there are: {', '.join(PRESETS)}")
        return preset


def access_log(options: AccessLogConfig, environment: Environment) -> AccessLog:
    """Build the source of the configured log. Raises BadSetting where there is none."""
    if options.path is None:
        raise BadSetting("produce.accesslog.path", "", "say which file the gateway appends to")
    deployments = deployments_of(options.deployments, environment)
    reader = LineReader(line_rules(options.preset, options.fields, options.only), options.otherwise)
    return AccessLog(
        options.path.absolute(), reader, deployments, every_ms=round(1000 * options.every_s), begin=options.begin,
        ahead_ms=max_ahead_ms(environment.settings),
    )  # fmt: skip


def build(options: AccessLogConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the configured log."""
    return [access_log(options, environment)]


def check(options: AccessLogConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the requests in the log's first lines, or why it cannot be read."""
    if options.path is None:
        return
    source = access_log(options.model_copy(update={"begin": "start"}), environment)
    try:
        result = source.collect(None, environment.clock)
    except WattlogError as error:
        yield source.name, error
        return
    rows = sum(len(item.batch) for item in result.batches)
    if result.refused:
        lines = rows + len(result.refused) + sum(result.skipped.values())
        hint = (
            f"{len(result.refused)} of the {lines} lines in its first megabyte cannot be read so: {result.refused[0]}"
        )
        yield source.name, BadSetting("produce.accesslog.fields", source.name, hint)
    if rows or not result.refused:  # A bad line costs no other one.
        workloads = ", ".join(sorted(item.workload for item in result.batches)) or "none yet"
        skipped = f"; {sum(result.skipped.values())} other lines" if result.skipped else ""
        yield source.name, f"{counted(rows, 'request')} in its first megabyte, of {workloads}{skipped}"


PLUGIN = Plugin(
    "accesslog", Kind.POLLED, "requests with their tenants, from a gateway's access log (JSON lines)", build,
    AccessLogConfig, check,
)  # fmt: skip
