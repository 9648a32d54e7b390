"""`wattlog produce litellm`: requests that LiteLLM's callback has written down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting
from producers.api import Environment, Finding, Kind, Plugin, PolledSource
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import Deployment, deployments_of
from producers.gateways.litellm.callback_folder import CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.runtime.config import ProducerConfig


class LiteLLMConfig(ProducerConfig):
    """Options of `wattlog produce litellm`; `payload` and `deployments` hold for `wattlog produce http` too."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_LITELLM_")
    name: ClassVar[str] = "litellm"
    folder: Path | None = Field(None, description="Folder that the callback writes to.")
    every_s: float = Field(1.0, ge=0.1, le=3600, description="Seconds between two reads.")
    payload: LiteLLMRules = Field(default_factory=LiteLLMRules, description="Rules for reading payloads.")
    deployments: tuple[Deployment, ...] = Field(
        (), description="Rules that name the workload of a request; the first match wins."
    )


def build(options: LiteLLMConfig, environment: Environment) -> Sequence[PolledSource]:
    """Build the source of the configured folder. Raises BadSetting where there is none."""
    if options.folder is None:
        raise BadSetting("produce.litellm.folder", "", "say which folder LiteLLM's callback writes to")
    deployments = deployments_of(options.deployments, environment)
    every_ms, ahead_ms = round(1000 * options.every_s), max_ahead_ms(environment.settings)
    folder, reader = options.folder.absolute(), LiteLLMReader(options.payload)
    return [CallbackFolder(folder, reader, deployments, every_ms=every_ms, ahead_ms=ahead_ms)]


def check(options: LiteLLMConfig, environment: Environment) -> Iterator[Finding]:
    """Yield the files in the configured folder, or why it cannot be read."""
    if options.folder is None:
        return
    try:
        files = [path for path in options.folder.iterdir() if path.suffix == ".jsonl"]
        size = sum(path.stat().st_size for path in files)
    except OSError as error:
        yield str(options.folder), BadSetting("produce.litellm.folder", str(options.folder), f"{error.strerror}")
        return
    yield str(options.folder), f"{len(files)} files of the callback, {size:,} bytes"


PLUGIN = Plugin(
    "litellm", Kind.POLLED, "requests with their tenants, from what LiteLLM's callback has written down", build,
    LiteLLMConfig, check,
)  # fmt: skip
