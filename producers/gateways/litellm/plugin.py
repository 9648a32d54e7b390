"""`wattlog produce litellm`: requests that LiteLLM's callback has written down, until a signal says stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from prometheus_client import CollectorRegistry
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from contracts.errors import BadSetting
from contracts.settings import Settings
from producers.gateways.calls import max_ahead_ms
from producers.gateways.deployments import Deployment, Deployments
from producers.gateways.litellm.callback_folder import CallbackFolder
from producers.gateways.litellm.payloads import LiteLLMReader, LiteLLMRules
from producers.runtime.clock import SystemClock
from producers.runtime.config import ProducerConfig, load
from producers.runtime.poll_loop import Collector, Metrics
from producers.runtime.runner import outbox, serve_metrics


class LiteLLMConfig(ProducerConfig):
    """Options of `wattlog produce litellm`; `payload` and `deployments` hold for `wattlog produce http` too."""

    model_config = SettingsConfigDict(env_prefix="WATTLOG_LITELLM_")
    name: ClassVar[str] = "litellm"
    folder: Path | None = Field(None, description="The folder that the callback writes to.")
    every_s: float = Field(1.0, ge=0.1, le=3600, description="How often it is looked at.")
    payload: LiteLLMRules = Field(default_factory=LiteLLMRules, description="How payloads are read.")
    deployments: tuple[Deployment, ...] = Field((), description="Which workload serves what; the first match wins.")


def callback_folder(settings: Settings, config: LiteLLMConfig) -> CallbackFolder:
    """The configured folder. Raises BadSetting where there is none."""
    if config.folder is None:
        raise BadSetting("produce.litellm.folder", "", "say which folder LiteLLM's callback writes to")
    return CallbackFolder(
        config.folder.absolute(), LiteLLMReader(config.payload), Deployments(config.deployments, settings.cluster),
        every_ms=round(1000 * config.every_s), ahead_ms=max_ahead_ms(settings),
    )  # fmt: skip


def produce_litellm(settings: Settings, stop: threading.Event, *, config: Mapping[str, object] | None = None) -> None:
    """Reads the configured folder until `stop`. `config` overrides Kafka client properties."""
    source, registry = callback_folder(settings, load(LiteLLMConfig)), CollectorRegistry()
    serve_metrics(settings, registry)
    with outbox(settings, "litellm", config) as (spool, delivery):
        Collector([source], delivery, SystemClock(stop), spool.marks(), Metrics(registry)).run()


def check_litellm(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: whether the folder is there, and what lies in it."""
    told = load(LiteLLMConfig)
    if told.folder is None:
        return
    try:
        files = [path for path in told.folder.iterdir() if path.suffix == ".jsonl"]
        size = sum(path.stat().st_size for path in files)
    except OSError as error:
        yield str(told.folder), BadSetting("produce.litellm.folder", str(told.folder), f"{error.strerror}")
        return
    yield str(told.folder), f"{len(files)} files of the callback, {size:,} bytes"
