"""The producers by name, for `wattlog produce` and `wattlog doctor`. What one needs is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, NamedTuple

from contracts.errors import BadSetting
from contracts.settings import Settings
from producers.runtime.config import ProducerConfig

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
    "nvml": Producer("NVIDIA GPUs of this node, through the driver's NVML", "producers.runtime.runner:produce_nvml"),
    "exporter": Producer(
        "a node's GPUs, through DCGM exporter or nvidia_gpu_exporter where NVML is out of reach",
        "producers.gpu.exporter.plugin:produce_exporter",
        "producers.gpu.exporter.plugin:check_exporter",
        "producers.gpu.exporter.plugin:ExporterConfig",
    ),
    "zeusd": Producer(
        "a node's GPUs, through ML.ENERGY's zeusd",
        "producers.gpu.zeusd.plugin:produce_zeusd",
        "producers.gpu.zeusd.plugin:check_zeusd",
        "producers.gpu.zeusd.plugin:ZeusdConfig",
    ),
    "host": Producer(
        "energy of this node's CPUs and memory (RAPL, or zeusd's), apart from GPUs",
        "producers.host.plugin:produce_host",
        "producers.host.plugin:check_host",
        "producers.host.plugin:HostConfig",
    ),
    "servers": Producer(
        "inference servers' own counters: vLLM, SGLang, TGI, TensorRT-LLM, Triton, others by name",
        "producers.servers.plugin:produce_servers",
        "producers.servers.plugin:check_servers",
        "producers.servers.plugin:ServersConfig",
    ),
    "accesslog": Producer(
        "requests with their tenants, from a gateway's access log (JSON lines)",
        "producers.gateways.accesslog.plugin:produce_accesslog",
        "producers.gateways.accesslog.plugin:check_accesslog",
        "producers.gateways.accesslog.plugin:AccessLogConfig",
    ),
    "cgroups": Producer(
        "CPU, memory, storage and network of a node's cgroups (containers, services, jobs) and of the node",
        "producers.meters.plugin:produce_cgroups",
        "producers.meters.plugin:check_cgroups",
        "producers.meters.cgroups.config:CgroupsConfig",
    ),
    "kubelet": Producer(
        "CPU, memory, storage and network of a node's pods, from its kubelet",
        "producers.meters.plugin:produce_kubelet",
        "producers.meters.plugin:check_kubelet",
        "producers.meters.kubelet.config:KubeletConfig",
    ),
    "prometheus": Producer(
        "meters by PromQL: what queries answer for each window",
        "producers.meters.plugin:produce_prometheus",
        "producers.meters.plugin:check_prometheus",
        "producers.meters.prometheus.config:PrometheusConfig",
    ),
    "sql": Producer(
        "meters by SQL, from PostgreSQL or ClickHouse: what queries answer for each window",
        "producers.meters.plugin:produce_sql",
        "producers.meters.plugin:check_sql",
        "producers.meters.sql.config:SqlConfig",
    ),
    "http": Producer(
        "events over HTTP: CloudEvents as OpenMeter takes them, OTLP traces, LiteLLM's generic_api",
        "producers.receivers.http_plugin:produce_http",
        "producers.receivers.http_plugin:check_http",
        "producers.receivers.http_plugin:HttpConfig",
    ),
    "runai": Producer(
        "Run:ai's workloads and pods: GPU-, CPU- and memory-minutes from its control plane",
        "producers.runai.plugin:produce_runai",
        "producers.runai.plugin:check_runai",
        "producers.runai.plugin:RunAiConfig",
    ),
    "litellm": Producer(
        "requests with their tenants, from what LiteLLM's callback has written down",
        "producers.gateways.litellm.plugin:produce_litellm",
        "producers.gateways.litellm.plugin:check_litellm",
        "producers.gateways.litellm.plugin:LiteLLMConfig",
    ),
    "otel": Producer(
        "requests with their tenants, from OpenTelemetry spans on a Collector's Kafka topic",
        "producers.gateways.otel.plugin:produce_otel",
        "producers.gateways.otel.plugin:check_otel",
        "producers.gateways.otel.plugin:OtelConfig",
    ),
    "simulated": Producer(
        "SIMULATED: a seeded fleet of 48 GPUs with its tenants' requests", "producers.runtime.runner:produce_simulated"
    ),
})  # fmt: skip


class Shared(NamedTuple):
    """Something that several producers are told alike: its check and options, as of a `Producer`."""

    check: str
    options: str


_SHARED: Mapping[str, Shared] = MappingProxyType(
    {
        "bindings": Shared("producers.bindings.plugin:check_bindings", "producers.bindings.config:BindingsConfig"),
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
