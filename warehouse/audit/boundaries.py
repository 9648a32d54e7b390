"""Boundaries of energy: nodes whose energy counts twice, and nodes with less of it than others of their cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from heapq import nlargest
from typing import Any, NamedTuple

from contracts.boundary import Boundary, part_of
from warehouse.audit.findings import DoubleCount, GpuCoverage, NodeWithoutHost
from warehouse.audit.report import Audit
from warehouse.filters import Filter
from warehouse.periods import Period
from warehouse.reader import LedgerReader


class ClusterHosts(NamedTuple):
    """Nodes of a cluster, and how many of them have energy of GPUs alone, unlike the others."""

    cluster: str
    nodes: int
    nodes_without: int


def nodes_without_host(reader: LedgerReader, period: Period, cluster: str | None = None) -> list[ClusterHosts]:
    """Return the clusters of which only some nodes had energy beside their GPUs', in the last hour of the period.

    Bills of such a cluster include hosts or walls for a part of it. For operators. The audit looks at all hours.
    """
    rows = reader.ask("audit/nodes_without_host", Filter(cluster=cluster), start_ms=period.start, end_ms=period.end)
    return [ClusterHosts(**row) for row in rows]


class DoubleCounts:
    """Nodes whose host and wall are both in the ledger, added up over spans in the order of time."""

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self._nodes: dict[tuple[str, str], DoubleCount] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Add a row of double_counts.sql: one node in the next span."""
        node = DoubleCount(
            windows=row["windows"],
            cluster=row["cluster"],
            node=row["node"],
            hardwares=row["hardwares"],
            start=row["first_ms"],
            end=row["last_end_ms"],
        )
        known = self._nodes.get((node.cluster, node.node))
        if known is not None:
            hardwares = sorted({*known.hardwares, *node.hardwares})
            node = replace(node, windows=known.windows + node.windows, hardwares=hardwares, start=known.start)
        self._nodes[node.cluster, node.node] = node

    def report(self, audit: Audit) -> None:
        """Set the fields of double counting of an audit."""
        audit.nodes_counted_twice = len(self._nodes)
        audit.double_counts = nlargest(self._worst, self._nodes.values())


def report_nodes_without_host(audit: Audit, devices: Iterable[GpuCoverage], worst: int) -> None:
    """Set the nodes of which only GPUs were measured, in clusters where other nodes have their host or wall too."""
    parts: dict[str, dict[str, set[Boundary]]] = defaultdict(lambda: defaultdict(set))
    for device in devices:
        parts[device.cluster][device.node].add(part_of(device.hardware))
    nodes_without = [
        NodeWithoutHost(cluster, node)
        for cluster, nodes in parts.items()
        if any(of_node - {Boundary.GPU} for of_node in nodes.values())
        for node, of_node in nodes.items()
        if of_node == {Boundary.GPU}
    ]
    audit.nodes_without_host, audit.without_host = len(nodes_without), sorted(nodes_without)[:worst]
