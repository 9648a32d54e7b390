"""Clusters and whether their energy is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.topics import check_name
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader
from warehouse.reference_data.storage import put_versioned


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's mark for simulated energy: answers that hold its rows say SIMULATED."""

    cluster: str
    simulated: bool = False
    note: str = ""

    def check(self) -> None:
        """Raise BadInput for an impossible name."""
        check_name("cluster", self.cluster)


def put_clusters(warehouse: Warehouse, clusters: Sequence[Cluster]) -> None:
    """Store marks of clusters, replacing their rows. Raises BadInput for an impossible name."""
    for cluster in clusters:
        cluster.check()
    put_versioned(warehouse, "clusters", clusters)


def list_clusters(warehouse: Warehouse | LedgerReader) -> list[Cluster]:
    """Return all clusters that have a row, by name."""
    return [
        Cluster(cluster=row["cluster"], simulated=bool(row["simulated"]), note=row["note"])
        for row in warehouse.ask("reference_data/clusters")
    ]
