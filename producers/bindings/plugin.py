"""Bindings as they are configured, for agents and for `wattlog doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from prometheus_client import CollectorRegistry

from contracts import topics
from contracts.errors import BadSetting, Unavailable, WattlogError
from contracts.settings import Settings
from producers.bindings.apportion import Binding, GpuShares
from producers.bindings.claims import (
    HARMLESS_KINDS,
    BindingSource,
    Boards,
    ClaimReport,
    DeviceClaim,
    GpuBoard,
    WorkloadHolder,
    tenant_fault,
    workload_fault,
)
from producers.bindings.config import BindingsConfig
from producers.bindings.kubernetes.kubelet import KubeletPodResources
from producers.bindings.kubernetes.pods import KubernetesBindings
from producers.bindings.metrics import BindingMetrics
from producers.bindings.processes.rules import ProcessBindings
from producers.bindings.procfs import ProcFs
from producers.bindings.slurm.jobs import Scontrol, SlurmBindings
from producers.bindings.watcher import BindingReader, BindingSnapshot, BindingWatcher, describe_shares
from producers.gpu.nvml.boards import NvmlBoards
from producers.runtime.config import load


def record_ms() -> int:
    """How often it goes on record who holds which GPU; 0: never."""
    return round(1000 * load(BindingsConfig).record_s)


class SettingsBindings:
    """One workload for all GPUs of the node: the settings' `workload` and `owner`."""

    name = "settings"

    def __init__(self, workload: str, owner: str) -> None:
        self._holder = WorkloadHolder(workload, owner, self.name) if workload else None

    def read(self, topology: Boards, now_ms: int) -> ClaimReport:
        return ClaimReport([DeviceClaim(board.uuid, self._holder) for board in topology] if self._holder else ())


def sources(
    settings: Settings, told: BindingsConfig, node: str, nvml: Callable[[], NvmlBoards]
) -> Iterator[BindingSource]:  # fmt: skip
    """The configured sources, in order. `nvml` is asked for where processes are looked for. Raises BadSetting."""
    proc = ProcFs(told.proc)
    for name in told.source:
        if name == "settings":
            yield SettingsBindings(*_of_settings(settings))
        elif name == "kubernetes":
            from producers.bindings.kubernetes.api_server import ApiServer  # httpx, which other agents need not load

            api = ApiServer(told.api, node, told.token, told.ca)
            kubelet = KubeletPodResources(told.kubelet, told.resources)
            yield KubernetesBindings(
                kubelet, api, told.labels, keep_ms=round(1000 * told.keep_s), tenant_from=told.tenant_from
            )  # fmt: skip
        elif name == "slurm":
            yield SlurmBindings(nvml().running, proc, Scontrol(told.scontrol) if told.scontrol else None)
        else:
            yield ProcessBindings(nvml().running, proc, told.rules)


def _of_settings(settings: Settings) -> tuple[str, str]:
    if settings.workload and (fault := workload_fault(settings.workload)):
        raise BadSetting("workload", settings.workload, fault)
    if settings.owner and (fault := tenant_fault(settings.owner)):
        raise BadSetting("owner", settings.owner, fault)
    return settings.workload, settings.owner


@contextmanager
def watched(
    settings: Settings, node: str, gpus: Sequence[str], kind: str, monotonic_ms: Callable[[], int],
    registry: CollectorRegistry,
) -> Iterator[Callable[[], Mapping[str, GpuShares]]]:  # fmt: skip
    """Who holds which GPU, for an agent of this kind of sensor, as long as it runs. Raises BadSetting, and Unavailable
    where processes are to be looked for and there is no NVML."""
    told, metrics = load(BindingsConfig), BindingMetrics(registry)
    with ExitStack() as stack:
        looker = _looker(settings, told, node, gpus, kind == "nvml", metrics, stack)
        if told.source == ("settings",):  # They do not change: nobody needs to look twice.
            seen = looker.look(monotonic_ms())
            yield lambda: seen.holdings
            return
        every_ms, keep_ms = round(1000 * told.every_s), round(1000 * told.keep_s)
        watching = BindingWatcher(looker, monotonic_ms, every_ms=every_ms, keep_ms=keep_ms, metrics=metrics)
        yield stack.enter_context(watching)


def _looker(
    settings: Settings, told: BindingsConfig, node: str, gpus: Sequence[str], by_nvml: bool, metrics: BindingMetrics,
    stack: ExitStack,
) -> BindingReader:  # fmt: skip
    opened: list[NvmlBoards] = []

    def nvml() -> NvmlBoards:
        if not opened:
            opened.append(NvmlBoards())
            stack.callback(opened[0].close)
        return opened[0]

    fixed = tuple(GpuBoard(uuid) for uuid in gpus)
    asked = list(sources(settings, told, node, nvml))
    # What other sensors see (an exporter, a node's host) NVML may not.
    topology = nvml().boards if by_nvml and told.source != ("settings",) else lambda: fixed
    nobody = Binding(topics.node_workload(node))
    return BindingReader(topology, asked, nobody, keep_ms=round(1000 * told.keep_s), metrics=metrics)


def check_bindings(settings: Settings) -> Iterator[tuple[str, Exception | str]]:
    """For `wattlog doctor`: who holds each GPU and why, by one look. Nothing where only the settings are asked."""
    from producers.runtime.runner import node_name

    told = load(BindingsConfig)
    if told.source == ("settings",):
        return
    registry = CollectorRegistry()
    with ExitStack() as stack:
        try:
            gpus, by_nvml = _gpus()
            node = node_name(settings)
            seen = _looker(settings, told, node, gpus, by_nvml, BindingMetrics(registry), stack).look(0)
        except WattlogError as error:
            yield ", ".join(told.source), error
            return
        yield from _told(seen)
        for name in told.source:
            if registry.get_sample_value("wattlog_producer_binding_failures_total", {"source": name}):
                yield name, Unavailable(f"bindings: {name} does not answer", "The log above says why.")


def _told(seen: BindingSnapshot) -> Iterator[tuple[str, Exception | str]]:
    for gpu in seen.gpus:
        yield gpu, describe_shares(seen.holdings.get(gpu))
    for odd in seen.oddities:
        yield (
            odd.kind,
            odd.says if odd.kind in HARMLESS_KINDS else Unavailable(odd.says, "producers/bindings/README.md says more."),
        )


def _gpus() -> tuple[list[str], bool]:
    """The GPUs that are metered here, and whether NVML sees them: else the configured exporter does."""
    try:
        boards = NvmlBoards()
    except Unavailable:
        return _exported(), False
    boards.close()
    return [], True


def _exported() -> list[str]:
    import threading

    from producers.common.http_client import Pages
    from producers.gpu.exporter.plugin import ExporterConfig, exporter_page
    from producers.runtime.clock import SystemClock

    told = load(ExporterConfig)
    if not told.url:
        raise Unavailable(
            "No GPU is metered here: there is neither NVML nor an exporter",
            "Ask on the node, or set produce.exporter.url.",
        )
    with Pages(bearer=told.bearer.get_secret_value() if told.bearer else "") as pages:
        clock = SystemClock(threading.Event())
        return [reading.gpu_uuid for reading in exporter_page(told, pages).readings(clock)]
