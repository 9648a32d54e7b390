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
    "zeusd": Producer(
        "a node's GPUs, through ML.ENERGY's zeusd",
        "producers.zeusd.produce:produce_zeusd",
        "producers.zeusd.produce:check_zeusd",
        "producers.zeusd.produce:ZeusdConfig",
    ),
    "host": Producer(
        "energy of this node's CPUs and memory (RAPL, or zeusd's), apart from GPUs",
        "producers.host.produce:produce_host",
        "producers.host.produce:check_host",
        "producers.host.produce:HostConfig",
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
    "cgroups": Producer(
        "CPU, memory, storage and network of a node's cgroups (containers, services, jobs) and of the node",
        "producers.meters.produce:produce_cgroups",
        "producers.meters.produce:check_cgroups",
        "producers.meters.config:CgroupsConfig",
    ),
    "kubelet": Producer(
        "CPU, memory, storage and network of a node's pods, from its kubelet",
        "producers.meters.produce:produce_kubelet",
        "producers.meters.produce:check_kubelet",
        "producers.meters.config:KubeletConfig",
    ),
    "prometheus": Producer(
        "meters by PromQL: what queries answer for each window",
        "producers.meters.produce:produce_prometheus",
        "producers.meters.produce:check_prometheus",
        "producers.meters.config:PrometheusConfig",
    ),
    "sql": Producer(
        "meters by SQL, from PostgreSQL or ClickHouse: what queries answer for each window",
        "producers.meters.produce:produce_sql",
        "producers.meters.produce:check_sql",
        "producers.meters.config:SqlConfig",
    ),
    "http": Producer(
        "events over HTTP: CloudEvents as OpenMeter takes them, OTLP traces, LiteLLM's generic_api",
        "producers.ingest.produce:produce_http",
        "producers.ingest.produce:check_http",
        "producers.ingest.produce:HttpConfig",
    ),
    "runai": Producer(
        "Run:ai's workloads and pods: GPU-, CPU- and memory-minutes from its control plane",
        "producers.runai.produce:produce_runai",
        "producers.runai.produce:check_runai",
        "producers.runai.produce:RunAiConfig",
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


class Shared(NamedTuple):
    """Something that several producers are told alike: its check and options, as of a `Producer`."""

    check: str
    options: str


_SHARED: Mapping[str, Shared] = MappingProxyType(
    {
        "bindings": Shared("producers.bindings.produce:check_bindings", "producers.bindings.config:BindingsConfig"),
    }
)


def shared() -> tuple[str, ...]:
    """What producers share options of."""
    return tuple(_SHARED)


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
    """The options of each producer that has some, and those that they share."""
    yield from (resolve_name(p.options) for p in (*_PRODUCERS.values(), *_SHARED.values()) if p.options)


def variables() -> set[str]:
    """The environment variables that options may be given by."""
    return {f"{o.model_config['env_prefix']}{name}".upper() for o in options() for name in o.model_fields}


def checks() -> Iterator[tuple[str, Callable[[Settings], Iterator[Found]]]]:
    """The name and check of each producer that has one, and of what they share. What a check lacks here (an optional
    library) it says."""
    yield from ((name, resolve_name(p.check)) for name, p in (*_PRODUCERS.items(), *_SHARED.items()) if p.check)
