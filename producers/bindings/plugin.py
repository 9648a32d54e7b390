"""Holders of GPUs as `[produce.bindings]` configures them, for the agent and for `wattlog doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from contracts import topics
from contracts.errors import Unavailable, WattlogError
from producers import registry
from producers.api import Environment, Finding, GpuInventory, GpuSensor, Kind, NamesGpus, Plugin
from producers.bindings.apportion import Binding, GpuShares
from producers.bindings.claims import HARMLESS_KINDS, GpuBoard
from producers.bindings.config import BindingsConfig
from producers.bindings.metrics import BindingMetrics
from producers.bindings.watcher import BindingReader, BindingSnapshot, BindingWatcher, describe_shares
from producers.gpu.inventory import find_sensor
from producers.gpu.roster import GpuRoster
from producers.runtime.config import load, load_options
from producers.runtime.refusals import RefusalReport

FIXED = ("settings",)
"""The sources whose claims never change: one look is enough."""


class GpuHolders(NamedTuple):
    """`current` returns the holders of each GPU by UUID; `record_ms` is how often they go on record, 0: never."""

    current: Callable[[], Mapping[str, GpuShares]]
    record_ms: int


def holders(
    environment: Environment, sensor: GpuSensor, roster: GpuRoster, refusals: RefusalReport
) -> GpuHolders:  # fmt: skip
    """Watch who holds the GPUs of a roster, which a sensor reads, until the environment is closed.

    Raises BadSetting, and Unavailable where a source needs the machine's processes and no sensor shows them."""
    options, metrics = load(BindingsConfig), BindingMetrics(environment.metrics)
    reader = _reader(options, environment, sensor, roster, metrics, refusals)
    record_ms = round(1000 * options.record_s)
    monotonic_ms = environment.clock.monotonic_ms
    if options.source == FIXED:
        return GpuHolders(_FixedHolders(reader, monotonic_ms, roster), record_ms)
    every_ms, keep_ms = round(1000 * options.every_s), round(1000 * options.keep_s)
    watcher = BindingWatcher(
        reader, monotonic_ms, every_ms=every_ms, keep_ms=keep_ms, metrics=metrics, changed=roster.changed
    )
    return GpuHolders(environment.resources.enter_context(watcher), record_ms)


class _FixedHolders:
    """Shares of each GPU by sources whose claims never change. They are read again when a GPU appears or leaves."""

    def __init__(self, reader: BindingReader, monotonic_ms: Callable[[], int], roster: GpuRoster) -> None:
        self._reader, self._monotonic_ms, self._roster = reader, monotonic_ms, roster
        self._snapshot = reader.read(monotonic_ms())

    def __call__(self) -> Mapping[str, GpuShares]:
        if self._roster.changed.is_set():
            self._roster.changed.clear()
            self._snapshot = self._reader.read(self._monotonic_ms())
        return self._snapshot.shares


def _reader(
    options: BindingsConfig, environment: Environment, sensor: GpuSensor, roster: GpuRoster, metrics: BindingMetrics,
    refusals: RefusalReport,
) -> BindingReader:  # fmt: skip
    def boards() -> Sequence[GpuBoard]:
        if isinstance(sensor, GpuInventory) and options.source != FIXED:
            return sensor.boards()
        names = sensor.names if isinstance(sensor, NamesGpus) else {}
        return [GpuBoard(uuid, names=tuple((name, uuid) for name in names.get(uuid, ()))) for uuid in roster.uuids]

    if isinstance(sensor, GpuInventory):
        inventory = sensor
        environment = replace(environment, inventory=lambda: inventory)
    plugins = [registry.get(name, Kind.BINDING) for name in options.source]
    sources = [plugin.factory(load_options(plugin.options), environment) for plugin in plugins]
    unallocated = Binding(topics.node_workload(environment.node))
    keep_ms = round(1000 * options.keep_s)
    return BindingReader(boards, sources, unallocated, keep_ms=keep_ms, metrics=metrics, refusals=refusals)


def check(options: BindingsConfig, environment: Environment) -> Iterator[Finding]:
    """Yield who holds each GPU and why, by one look; nothing where only the settings say so."""
    if options.source == FIXED:
        return
    metrics = CollectorRegistry()
    try:
        sensor, gpus = find_sensor(environment)
        own = BindingMetrics(metrics), RefusalReport(metrics)
        snapshot = _reader(options, environment, sensor, GpuRoster(gpus), *own).read(0)
    except WattlogError as error:
        yield ", ".join(options.source), error
        return
    yield from _findings(snapshot)
    for name in options.source:
        if metrics.get_sample_value("wattlog_producer_binding_failures_total", {"source": name}):
            yield name, Unavailable(f"bindings: {name} does not answer", "The log above says why.")


def _findings(snapshot: BindingSnapshot) -> Iterator[Finding]:
    for gpu in snapshot.gpus:
        yield gpu, describe_shares(snapshot.shares.get(gpu))
    for warning in snapshot.warnings:
        hint = "producers/bindings/README.md says more."
        is_harmless = warning.kind in HARMLESS_KINDS
        yield warning.kind, warning.message if is_harmless else Unavailable(warning.message, hint)


PLUGIN = Plugin(
    "bindings", Kind.SHARED, "which workload holds which GPU", lambda options, environment: None, BindingsConfig, check
)
