"""Evidence: how energy was measured, GPUs that no workload ever occupied, and nodes and clusters that fell silent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from heapq import nlargest
from typing import Any

from contracts.units import EpochMs
from warehouse.audit.completeness import SILENT_MS, GpuKey
from warehouse.audit.findings import EstimatedGpu, GpuCoverage, SilentNode, UnboundGpu
from warehouse.audit.report import Audit

EVIDENCE = ("counter_uj", "counter_ms", "integrated_uj", "integrated_ms", "estimated_uj", "estimated_ms", "bound_ms")
"""Sums of a GPU, in the order of the column `evidence` of gpu_coverage.sql."""


class Evidence:
    """Evidence of GPUs, hosts and meters at the wall, added up over spans in the order of time."""

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self._gpus: dict[GpuKey, Counter[str]] = defaultdict(Counter)

    def add(self, gpu: dict[str, Any]) -> None:
        """Add a row of gpu_coverage.sql: one GPU in the next span."""
        key = gpu["cluster"], gpu["node"], gpu["gpu_uuid"]
        self._gpus[key].update(dict(zip(EVIDENCE, map(int, gpu["evidence"]), strict=True)))

    def report(self, audit: Audit, devices: Collection[GpuCoverage], until_ms: int) -> None:
        """Set the fields of evidence of an audit of these devices and a period that ends at `until_ms`.

        Energy is of all of them, time of GPUs alone. A node is silent by its GPUs, if it has any.
        """
        gpus = {(d.cluster, d.node, d.gpu_uuid): d.last_window_end for d in devices if d.is_gpu}
        of_gpus = {key: sums for key, sums in self._gpus.items() if key in gpus}
        for name in EVIDENCE[:-1]:
            counted = of_gpus if name.endswith("_ms") else self._gpus
            setattr(audit, name, sum(sums[name] for sums in counted.values()))
        estimated = [
            EstimatedGpu(estimated_ms=s["estimated_ms"], estimated_uj=s["estimated_uj"], **_names(key))
            for key, s in of_gpus.items()
            if s["estimated_ms"]
        ]
        unbound = [UnboundGpu(**_names(key)) for key, s in of_gpus.items() if not s["bound_ms"]]
        audit.meters_with_estimates = sum(
            1 for key, s in self._gpus.items() if s["estimated_ms"] and key not in of_gpus
        )
        audit.gpus_with_estimates, audit.estimated = len(estimated), nlargest(self._worst, estimated)
        audit.gpus_unbound, audit.unbound = len(unbound), sorted(unbound)[: self._worst]
        nodes_with_gpus = {key[:2] for key in gpus}
        others = {
            (d.cluster, d.node, d.gpu_uuid): d.last_window_end
            for d in devices
            if (d.cluster, d.node) not in nodes_with_gpus
        }
        silent = silent_nodes(gpus | others, until_ms)
        audit.nodes_silent, audit.silent_nodes = len(silent), silent[: self._worst]


def silent_nodes(end_ms: Mapping[GpuKey, int], until_ms: int) -> list[SilentNode]:
    """Return the nodes without a window for `SILENT_MS` before the period's end, the longest silent first.

    `end_ms` has the end of each GPU's last window. Where the period goes on behind the newest of them, it ends with
    that. A cluster of which every node is silent is named once, without a node.
    """
    until_ms = min(until_ms, max(end_ms.values(), default=0))
    nodes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (cluster, node, _), last_ms in end_ms.items():
        nodes[cluster][node] = max(nodes[cluster][node], last_ms)
    silent = []
    for cluster, ends in nodes.items():
        late = {node: last_ms for node, last_ms in ends.items() if last_ms < until_ms - SILENT_MS}
        if len(late) == len(ends):
            late = {"": max(late.values())}
        silent += [SilentNode(EpochMs(last_ms), cluster, node, EpochMs(until_ms)) for node, last_ms in late.items()]
    return sorted(silent)


def _names(key: GpuKey) -> dict[str, str]:
    return dict(zip(("cluster", "node", "gpu_uuid"), key, strict=True))
