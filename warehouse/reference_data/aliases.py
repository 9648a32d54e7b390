"""Former names of clusters: rows that are stored under one are read under the cluster's name, so it has one series."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.topics import check_name
from warehouse.client import Warehouse
from warehouse.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class ClusterAlias:
    """A former name of a cluster."""

    alias: str
    cluster: str

    def check(self) -> None:
        """Raise BadInput for an impossible name."""
        check_name("cluster", self.alias)
        check_name("cluster", self.cluster)


def list_aliases(warehouse: Warehouse | LedgerReader) -> list[ClusterAlias]:
    """Return all former names, by name."""
    return [ClusterAlias(**row) for row in warehouse.ask("reference_data/cluster_aliases")]
