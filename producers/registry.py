"""The producers by name, for `wattlog produce` and `wattlog doctor`. What one needs is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, NamedTuple

from contracts.errors import BadSetting
from contracts.settings import Settings
from producers.config import ProducerConfig

Found = tuple[str, Exception | str]
"""What `wattlog doctor` shows of one place that is read: where, and what was found there or why that cannot be read."""


class Producer(NamedTuple):
    """What it is in a line, and where its parts are (`module:name`).

    `run(settings, stop, *, config=None, ...)` runs until `stop` is set; `check(settings)` yields `Found`s, none where
    nothing is configured; `options` is its `ProducerConfig`. Those that have none leave them "".
    """

    summary: str
    run: str
    check: str = ""
    options: str = ""


_PRODUCERS: Mapping[str, Producer] = MappingProxyType({
    "nvml": Producer("NVIDIA GPUs of this node, through the driver's NVML", "producers.shells:produce_nvml"),
    "exporter": Producer(
        "a node's GPUs, through DCGM exporter or nvidia_gpu_exporter where NVML is out of reach",
        "producers.produce_exporter:produce_exporter",
        "producers.produce_exporter:check_exporter",
        "producers.produce_exporter:ExporterConfig",
    ),
    "servers": Producer(
        "inference servers' own counters: vLLM, SGLang, TGI, TensorRT-LLM, Triton, others by name",
        "producers.servers.produce:produce_servers",
        "producers.servers.produce:check_servers",
        "producers.servers.produce:ServersConfig",
    ),
    "accesslog": Producer(
        "requests with their tenants, from a gateway's access log (JSON lines)",
        "producers.gateways.produce:produce_accesslog",
        "producers.gateways.produce:check_accesslog",
        "producers.gateways.produce:AccessLogConfig",
    ),
    "http": Producer(
        "events over HTTP: CloudEvents as OpenMeter takes them",
        "producers.ingest.produce:produce_http",
        "producers.ingest.produce:check_http",
        "producers.ingest.produce:HttpConfig",
    ),
    "litellm": Producer(
        "requests with their tenants, from what LiteLLM's callback has written down",
        "producers.gateways.produce_litellm:produce_litellm",
        "producers.gateways.produce_litellm:check_litellm",
        "producers.gateways.produce_litellm:LiteLLMConfig",
    ),
    "otel": Producer(
        "requests with their tenants, from OpenTelemetry spans on a Collector's Kafka topic",
        "producers.gateways.produce_otel:produce_otel",
        "producers.gateways.produce_otel:check_otel",
        "producers.gateways.produce_otel:OtelConfig",
    ),
    "simulated": Producer(
        "SIMULATED: a seeded fleet of 48 GPUs with its tenants' requests", "producers.shells:produce_simulated"
    ),
})  # fmt: skip


def names() -> dict[str, str]:
    """Each producer, and what it is in a line."""
    return {name: producer.summary for name, producer in _PRODUCERS.items()}


def get(name: str) -> Callable[..., None]:
    """A producer's run. Raises BadSetting for a name that is none."""
    try:
        run: Callable[..., None] = resolve_name(_PRODUCERS[name].run)
    except KeyError:
        raise BadSetting("producer", name, f"use one of {', '.join(_PRODUCERS)}") from None
    return run


def produce(name: str, *args: Any, **options: Any) -> None:
    """Runs a producer by name."""
    get(name)(*args, **options)


def options() -> Iterator[type[ProducerConfig]]:
    """The options of each producer that has some."""
    yield from (resolve_name(p.options) for p in _PRODUCERS.values() if p.options)


def checks() -> Iterator[tuple[str, Callable[[Settings], Iterator[Found]]]]:
    """The name and check of each producer that has one. What a check lacks here (an optional library) it says."""
    yield from ((name, resolve_name(p.check)) for name, p in _PRODUCERS.items() if p.check)
