"""The producers by name, for `wattlog produce`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from contracts.errors import BadSetting
from producers.shells import produce_nvml, produce_simulated

Produce = Callable[..., None]
"""`(settings, stop, *, config=None, ...)`: runs until `stop` is set."""


def _servers(*args: Any, **options: Any) -> None:
    from producers.servers.produce import produce_servers  # httpx and a parser, which other producers need not load

    produce_servers(*args, **options)


def _exporter(*args: Any, **options: Any) -> None:
    from producers.produce_exporter import produce_exporter

    produce_exporter(*args, **options)


def _accesslog(*args: Any, **options: Any) -> None:
    from producers.gateways.produce import produce_accesslog

    produce_accesslog(*args, **options)


_PRODUCERS: Mapping[str, tuple[str, Produce]] = MappingProxyType({
    "nvml": ("NVIDIA GPUs of this node, through the driver's NVML", produce_nvml),
    "exporter": ("a node's GPUs, through DCGM exporter or nvidia_gpu_exporter where NVML is out of reach", _exporter),
    "servers": ("Inference servers' own counters: vLLM, SGLang, TGI, TensorRT-LLM, Triton, others by name", _servers),
    "accesslog": ("requests with their tenants, from a gateway's access log (JSON lines)", _accesslog),
    "simulated": ("SIMULATED: a seeded fleet of 48 GPUs with its tenants' requests", produce_simulated),
})  # fmt: skip


def names() -> dict[str, str]:
    """Each producer, and what it is in a line."""
    return {name: summary for name, (summary, _) in _PRODUCERS.items()}


def get(name: str) -> Produce:
    """A producer's run. Raises BadSetting for a name that is none."""
    try:
        return _PRODUCERS[name][1]
    except KeyError:
        raise BadSetting("producer", name, f"use one of {', '.join(_PRODUCERS)}") from None


def produce(name: str, *args: Any, **options: Any) -> None:
    """Runs a producer by name."""
    get(name)(*args, **options)
