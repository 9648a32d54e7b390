"""Probes of this machine for `wattlog init`: GPUs, pages on loopback, LiteLLM's file. Each is bounded in time and size.

A probe that fails yields one line for the person, and the others go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cli.wiring.gateway_file import read_gateway_file
from cli.wiring.machine import NVML, GatewayFile, GpuSource, Machine, ServerPage
from contracts.errors import BadInput, Unavailable, WattlogError
from contracts.settings import Settings
from producers import registry
from producers.api import Environment, Kind
from producers.common import prometheus_text
from producers.common.http_client import Pages
from producers.common.prometheus_text import PrometheusPage
from producers.common.time_limit import TimeLimit
from producers.gpu.exporter_formats import PRESETS
from producers.runtime.clock import SystemClock
from producers.servers.page_scrape import description
from producers.servers.token_counters import NamedCounters

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
PAGE_S = 1.0
"""Time limit of each step of reading a page; twice that for the whole page."""
NVML_S = 15.0
"""Time limit of the driver: it may take seconds to wake GPUs that nobody uses."""
EXPORTER_PORTS = (9400, 9835, 5000, 9090, 28282, 9102)
"""DCGM exporter, nvidia_gpu_exporter, AMD's, all-smi, Kepler (two)."""
SERVER_PORTS = (8000, 8001, 8002, 8080, 3000, 30000, 23333, 5001, 8081)
"""vLLM and NIM, their neighbours, Triton, TGI and llama.cpp, TGI, SGLang, LMDeploy and others."""
GATEWAY_FILES = ("config.yaml", "litellm_config.yaml", "litellm-config.yaml", "proxy_config.yaml", "litellm.yaml")
"""Names of LiteLLM's file that are looked for in the working directory."""
PREFERENCE = tuple(kind for kind in PRESETS if kind != "triton")
"""Exporters that measure GPUs for their own sake: Triton's counter restarts with the server."""


def probe(
    addresses: Sequence[str] = (), gateway: Path | None = None, *, folder: Path, ports: Sequence[int] | None = None
) -> Machine:
    """Look at this machine. `addresses` of pages and the file `gateway` are looked at besides the usual places.

    `ports` replaces the usual ones on loopback.
    """
    usual = sorted({*EXPORTER_PORTS, *SERVER_PORTS}) if ports is None else ports
    addresses = [_whole_address(address) for address in addresses]
    urls = list(dict.fromkeys([*addresses, *(f"http://{LOOPBACK}:{port}/metrics" for port in usual)]))
    notes: list[str] = []
    gpus = _nvml(notes)
    servers: list[ServerPage] = []
    with Pages(timeout_s=PAGE_S, keep_alive=False) as pages, ThreadPoolExecutor(max_workers=8) as pool:
        answers = pool.map(lambda url: _read(pages.text, url), urls)
        for url, (page, problem) in zip(urls, answers, strict=True):
            if page is None:
                if url in addresses or not _is_nothing(problem):
                    notes.append(problem)
                continue
            source, server = _exporter(page, url), _server(page, url)
            if source is not None:
                gpus.append(source)
            if server is not None:
                servers.append(server)
            if source is None and server is None:
                notes.append(f"{url} is of no server or exporter that Wattlog knows. {description(page, '')}")
    return Machine(tuple(gpus), _each_once(servers), _gateway(gateway, folder, notes), tuple(notes))


def _whole_address(address: str) -> str:
    """Return the address of a page: `localhost:8000` is http://localhost:8000/metrics."""
    url = address if "://" in address else f"http://{address}"
    return f"{url.rstrip('/')}/metrics" if urlsplit(url).path in ("", "/") else url


def _nvml(notes: list[str]) -> list[GpuSource]:
    """Return what NVML sees: nothing, with a note, without a driver or within NVML_S."""

    def see() -> GpuSource:
        return _source(NVML, "", registry.get(NVML, Kind.GPU), None)

    try:
        return [TimeLimit(NVML_S).run(NVML, see)]
    except Unavailable as error:
        notes.append(f"no GPU through NVML: {error.problem}")
    except Exception as error:
        notes.append(f"no GPU through NVML: {error or type(error).__name__}")
    return []


def _read(fetch: Callable[[str], str], url: str) -> tuple[PrometheusPage | None, str]:
    """Return a page, or the line that says why there is none."""
    try:
        page = prometheus_text.parse_page(fetch(url))
    except Unavailable as error:
        return None, error.problem
    except BadInput:
        return None, f"{url} is no page of metrics"
    except Exception as error:  # A page of anything: what cannot be read is no server's.
        return None, f"{url} cannot be read: {error or type(error).__name__}"
    return (page, "") if page.samples else (None, f"{url} is no page of metrics")


def _is_nothing(problem: str) -> bool:
    """Return True where nothing listens on a usual port, or what does has no page of metrics."""
    return "refused" in problem or "does not answer" in problem or " answers 4" in problem or "is no page" in problem


def _exporter(page: PrometheusPage, url: str) -> GpuSource | None:
    """Return the exporter that a page is of, None for another page."""
    plugin = registry.get("exporter", Kind.GPU)
    options: Any = plugin.options
    for kind in PREFERENCE:
        if any(page.samples.get(quantity.sample) for quantity in PRESETS[kind].measures):
            with suppress(Exception):  # Of any class: it has no GPUs, or those of several nodes.
                return _source(kind, url, plugin, options(url=url, kind=kind))
    return None


def _source(sensor: str, url: str, plugin: registry.AnyPlugin, options: object) -> GpuSource:
    """Return what a plug-in's sensor sees. Raises Unavailable where it sees no GPU."""
    stop = threading.Event()
    clock = SystemClock(stop)
    with ExitStack() as resources:
        opened = plugin.factory(options, Environment(Settings.model_construct(), clock, stop, resources))
        readings = opened.readings(clock)
        return GpuSource(sensor, len(readings), tuple(sorted({reading.hardware for reading in readings})), url)


def _server(page: PrometheusPage, url: str) -> ServerPage | None:
    """Return the inference server that a page is of; None for another page, and for a gateway's."""
    for plugin in registry.plugins(Kind.SERVER):
        try:
            counters = plugin.factory(None, None)  # type: ignore[arg-type]
            series = counters.series(page)
        except Exception as error:  # Another package's reader may fail on a page that is not its own.
            log.debug("%s: %s", plugin.name, error)
            continue
        if series and not (isinstance(counters, NamedCounters) and counters.tenant_labels):
            return ServerPage(url, plugin.name, tuple(sorted({s.model for s in series if s.model})))
    return None


def _each_once(servers: Iterable[ServerPage]) -> tuple[ServerPage, ...]:
    """Return the servers, each once: an address that was given may be one of the usual ones under another name."""
    by_port: dict[str, ServerPage] = {}
    for server in servers:
        by_port.setdefault(server.url.replace("//localhost:", f"//{LOOPBACK}:"), server)
    return tuple(by_port.values())


def _gateway(path: Path | None, folder: Path, notes: list[str]) -> GatewayFile | None:
    """Return LiteLLM's file: the one at `path`, else one in `folder` that is LiteLLM's."""
    candidates = [path] if path else [folder / name for name in GATEWAY_FILES if (folder / name).is_file()]
    for candidate in candidates:
        try:
            return read_gateway_file(candidate)
        except (WattlogError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            notes.append(f"{candidate}: {reason}")
    return None
