"""Findings of `wattlog init` on a machine, and the workloads that follow from them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

NVML = "nvml"


@dataclass(frozen=True)
class GpuSource:
    """A sensor that sees GPUs: NVML, or an exporter's page (`sensor` is its kind, `url` its address)."""

    sensor: str
    gpus: int
    hardware: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True)
class ServerPage:
    """A `/metrics` page of an inference server, with the models on it: none before the first request on some."""

    url: str
    server: str
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class GatewayModel:
    """An entry of LiteLLM's `model_list`. `model` has no provider; `api_base` is "" where the file gives none."""

    name: str
    model: str
    api_base: str = ""


@dataclass(frozen=True)
class GatewayFile:
    """LiteLLM's configuration file."""

    path: str
    models: tuple[GatewayModel, ...] = ()
    counts_streams: bool = False
    """It has `always_include_stream_usage: true`."""
    has_callback: bool = False
    """Its `callbacks` name Wattlog's."""


@dataclass(frozen=True)
class Machine:
    """Everything that the probes of one machine have seen. `notes` has a line for each probe that failed."""

    gpus: tuple[GpuSource, ...] = ()
    servers: tuple[ServerPage, ...] = ()
    gateway: GatewayFile | None = None
    notes: tuple[str, ...] = ()

    @property
    def sensor(self) -> GpuSource | None:
        """The source of GPU energy to use: NVML before an exporter, which reads the same counters less often."""
        return min(self.gpus, key=lambda source: source.sensor != NVML, default=None)


@dataclass(frozen=True)
class ServedModel:
    """A server and the name of the workload that it is."""

    page: ServerPage
    workload: str


def served_models(servers: Sequence[ServerPage]) -> list[ServedModel]:
    """Return the servers with the names of their workloads: their models', made different by the port."""
    names = [workload_name(page) for page in servers]
    return [
        ServedModel(page, name if names.count(name) == 1 else f"{name}-{_port(page.url)}")
        for page, name in zip(servers, names, strict=True)
    ]


def workload_name(page: ServerPage) -> str:
    """Return a name for what a server serves: its model without the owner, else the kind of the server."""
    model = page.models[0].rstrip("/").rpartition("/")[2] if page.models else ""
    return re.sub(r"[^a-z0-9._-]+", "-", model.lower()).strip("-._")[:100] or page.server


def backend_of(model: GatewayModel, servers: Sequence[ServedModel]) -> ServedModel | None:
    """Return the server that a gateway's model is sent to: by address, else by port, else by the model's name.

    None where no server fits, or several do.
    """
    base = model.api_base
    tests: tuple[Callable[[ServedModel], bool], ...] = (
        lambda s: bool(base) and _address(s.page.url) == _address(base),
        lambda s: bool(base) and _port(s.page.url) == _port(base),
        lambda s: bool(model.model) and model.model in s.page.models,
    )
    for fits in tests:
        candidates = [server for server in servers if fits(server)]
        if candidates:
            return candidates[0] if len(candidates) == 1 else None
    return None


def _address(url: str) -> tuple[str, int]:
    host = urlsplit(url).hostname or ""
    return "127.0.0.1" if host in ("localhost", "::1", "0.0.0.0") else host, _port(url)  # noqa: S104


def _port(url: str) -> int:
    parts = urlsplit(url)
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return 0
