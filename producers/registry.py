"""Registry of plug-ins: one line each, imported when it is needed, and open to other packages.

A package registers its own plug-ins by entry points of the group `wattlog.producers`:

    [project.entry-points."wattlog.producers"]
    acme = "acme_wattlog.plugin:PLUGIN"

A plug-in of another package that cannot be loaded, or whose name is taken, is logged, listed by `problems` and skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pkgutil import resolve_name
from typing import Any, NamedTuple

from contracts.errors import BadSetting
from producers.api import PRODUCERS, Kind, Plugin
from producers.runtime.config import ProducerConfig

log = logging.getLogger(__name__)

GROUP = "wattlog.producers"
AnyPlugin = Plugin[Any, Any]


class Entry(NamedTuple):
    """A built-in plug-in. `target` is `module:NAME` of its `Plugin`; its module is in the plug-in's folder."""

    kind: Kind
    name: str
    target: str

    @property
    def folder(self) -> str:
        """The plug-in's folder, relative to the repository: its code, and its page README.md."""
        return self.target.partition(":")[0].rpartition(".")[0].replace(".", "/")


BUILT_IN = (
    Entry(Kind.GPU, "nvml", "producers.gpu.nvml.plugin:PLUGIN"),
    Entry(Kind.GPU, "exporter", "producers.gpu.exporter.plugin:PLUGIN"),
    Entry(Kind.GPU, "zeusd", "producers.gpu.zeusd.plugin:PLUGIN"),
    Entry(Kind.POLLED, "host", "producers.host.plugin:PLUGIN"),
    Entry(Kind.POLLED, "servers", "producers.servers.plugin:PLUGIN"),
    Entry(Kind.POLLED, "accesslog", "producers.gateways.accesslog.plugin:PLUGIN"),
    Entry(Kind.POLLED, "cgroups", "producers.meters.cgroups.plugin:PLUGIN"),
    Entry(Kind.POLLED, "kubelet", "producers.meters.kubelet.plugin:PLUGIN"),
    Entry(Kind.POLLED, "prometheus", "producers.meters.prometheus.plugin:PLUGIN"),
    Entry(Kind.POLLED, "sql", "producers.meters.sql.plugin:PLUGIN"),
    Entry(Kind.POLLED, "sacct", "producers.meters.sacct.plugin:PLUGIN"),
    Entry(Kind.LISTENER, "http", "producers.receivers.plugin:PLUGIN"),
    Entry(Kind.POLLED, "runai", "producers.runai.plugin:PLUGIN"),
    Entry(Kind.POLLED, "litellm", "producers.gateways.litellm.plugin:PLUGIN"),
    Entry(Kind.POLLED, "otel", "producers.gateways.otel.plugin:PLUGIN"),
    Entry(Kind.EVENTS, "simulated", "producers.simulation.plugin:PLUGIN"),
    Entry(Kind.SHARED, "bindings", "producers.bindings.plugin:PLUGIN"),
    Entry(Kind.SHARED, "boundary", "producers.boundary.plugin:PLUGIN"),
    Entry(Kind.ROUTE, "requests", "producers.receivers.requests.plugin:PLUGIN"),
    Entry(Kind.ROUTE, "cloudevents", "producers.receivers.plugin:ROUTE"),
    Entry(Kind.ROUTE, "otlp", "producers.receivers.otlp.plugin:PLUGIN"),
    Entry(Kind.ROUTE, "otlp-metrics", "producers.receivers.otlp_signals.plugin:METRICS"),
    Entry(Kind.ROUTE, "otlp-logs", "producers.receivers.otlp_signals.plugin:LOGS"),
    Entry(Kind.ROUTE, "litellm", "producers.receivers.litellm.plugin:PLUGIN"),
    Entry(Kind.SERVER, "vllm", "producers.servers.vllm.plugin:PLUGIN"),
    Entry(Kind.SERVER, "sglang", "producers.servers.sglang.plugin:PLUGIN"),
    Entry(Kind.SERVER, "tgi", "producers.servers.tgi.plugin:PLUGIN"),
    Entry(Kind.SERVER, "trtllm", "producers.servers.trtllm.plugin:PLUGIN"),
    Entry(Kind.SERVER, "triton", "producers.servers.triton.plugin:PLUGIN"),
    Entry(Kind.SERVER, "llamacpp", "producers.servers.llamacpp.plugin:PLUGIN"),
    Entry(Kind.SERVER, "lmdeploy", "producers.servers.lmdeploy.plugin:PLUGIN"),
    Entry(Kind.SERVER, "nim", "producers.servers.nim.plugin:PLUGIN"),
    Entry(Kind.SERVER, "dynamo", "producers.servers.dynamo.plugin:PLUGIN"),
    Entry(Kind.SERVER, "ray", "producers.servers.ray.plugin:PLUGIN"),
    Entry(Kind.SERVER, "llmd", "producers.servers.llmd.plugin:PLUGIN"),
    Entry(Kind.SERVER, "litellm", "producers.servers.litellm.plugin:PLUGIN"),
    Entry(Kind.SERVER, "kong", "producers.servers.kong.plugin:PLUGIN"),
    Entry(Kind.SERVER, "apisix", "producers.servers.apisix.plugin:PLUGIN"),
    Entry(Kind.SERVER, "agentgateway", "producers.servers.agentgateway.plugin:PLUGIN"),
    Entry(Kind.SERVER, "envoyaigateway", "producers.servers.envoyaigateway.plugin:PLUGIN"),
    Entry(Kind.BINDING, "settings", "producers.bindings.settings.plugin:PLUGIN"),
    Entry(Kind.BINDING, "kubernetes", "producers.bindings.kubernetes.plugin:PLUGIN"),
    Entry(Kind.BINDING, "slurm", "producers.bindings.slurm.plugin:PLUGIN"),
    Entry(Kind.BINDING, "processes", "producers.bindings.processes.plugin:PLUGIN"),
    Entry(Kind.RECORDING, "mlperf", "producers.recordings.mlperf.plugin:PLUGIN"),
    Entry(Kind.RECORDING, "azure", "producers.recordings.azure.plugin:PLUGIN"),
    Entry(Kind.RECORDING, "csv", "producers.recordings.csv.plugin:PLUGIN"),
    Entry(Kind.RECORDING, "prometheus", "producers.recordings.prometheus.plugin:PLUGIN"),
)


def get(name: str, *kinds: Kind) -> AnyPlugin:
    """Return the plug-in of this name among `kinds` (default: those of `wattlog produce`). Raises BadSetting."""
    kinds = kinds or PRODUCERS
    for entry in BUILT_IN:
        if entry.name == name and entry.kind in kinds:
            return _load(entry.target)
    for plugin in _third_party().plugins:
        if plugin.name == name and plugin.kind in kinds:
            return plugin
    field = "producer" if kinds == PRODUCERS else kinds[0].value
    raise BadSetting(field, name, f"use one of {', '.join(names(*kinds))}")


def names(*kinds: Kind) -> tuple[str, ...]:
    """Return the names of the plug-ins of these kinds (default: those of `wattlog produce`)."""
    kinds = kinds or PRODUCERS
    built_in = (entry.name for entry in BUILT_IN if entry.kind in kinds)
    return (*built_in, *(plugin.name for plugin in _third_party().plugins if plugin.kind in kinds))


def plugins(*kinds: Kind) -> Iterator[AnyPlugin]:
    """Load the plug-ins of these kinds (default: all), built-in ones first."""
    for entry in BUILT_IN:
        if not kinds or entry.kind in kinds:
            yield _load(entry.target)
    yield from (plugin for plugin in _third_party().plugins if not kinds or plugin.kind in kinds)


def options() -> tuple[type[ProducerConfig], ...]:
    """Return the option classes of all plug-ins, each once."""
    return tuple(dict.fromkeys(plugin.options for plugin in plugins() if plugin.options))


def variables() -> set[str]:
    """Return the environment variables that options are read from."""
    return {f"{o.model_config['env_prefix']}{name}".upper() for o in options() for name in o.model_fields}


def problems() -> tuple[tuple[str, str], ...]:
    """Return each entry point that was skipped, and why."""
    return _third_party().problems


def _load(target: str) -> AnyPlugin:
    plugin: AnyPlugin = resolve_name(target)
    return plugin


class _ThirdParty(NamedTuple):
    plugins: tuple[AnyPlugin, ...]
    problems: tuple[tuple[str, str], ...]


@cache
def _third_party() -> _ThirdParty:
    """Load the plug-ins of other packages, once in a process."""
    used = {(_namespace(entry.kind), entry.name) for entry in BUILT_IN}
    loaded: list[AnyPlugin] = []
    problems: list[tuple[str, str]] = []
    for point in entry_points(group=GROUP):
        try:
            plugin = point.load()
            if not isinstance(plugin, Plugin):
                raise TypeError(f"{point.value} is no producers.api.Plugin, but {type(plugin).__name__}")
            key = (_namespace(plugin.kind), plugin.name)
            if key in used:
                raise ValueError(
                    f"the name {plugin.name!r} is taken by another {plugin.kind.value}: rename the plug-in"
                )
        except Exception as error:
            problems.append((point.name, f"{point.value}: {type(error).__name__}: {error}"))
            log.error("plug-in %s is skipped: %s", *problems[-1])
            continue
        used.add(key)
        loaded.append(plugin)
    return _ThirdParty(tuple(loaded), tuple(problems))


def _namespace(kind: Kind) -> Kind:
    """Kinds of `wattlog produce` and shared options have one space of names: that of `[produce.NAME]`."""
    return Kind.POLLED if kind in (*PRODUCERS, Kind.SHARED) else kind
