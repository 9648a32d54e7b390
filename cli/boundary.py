"""Boundaries of figures in the words of commands: what they include, and clusters without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cli.output import note
from contracts.boundary import Boundary

if TYPE_CHECKING:
    from warehouse.filters import Filter
    from warehouse.periods import Period
    from warehouse.reader import LedgerReader
    from warehouse.results import ChargebackRow, Outside

PART_NAMES = {Boundary.GPU: "GPUs", Boundary.HOST: "hosts", Boundary.WALL: "wall"}
"""Names of a node's parts."""
_LESS = {Boundary.HOST: ("of hosts", "GPUs"), Boundary.WALL: ("at the wall", "GPUs and hosts")}
"""Energy that a cluster lacks, and what its figures have at most, by the boundary."""


def note_clusters_outside(boundary: Boundary | None, outside: Outside) -> None:
    """Print a note of clusters without energy of the part that the boundary is named for, and one of those left out."""
    if boundary is None:
        return
    if excluded := outside.clusters_excluded:
        names = ", ".join(excluded)
        note(f"No energy within the boundary {boundary} was measured in {names}: these figures have nothing of it.")
    if less := [cluster for cluster in outside.clusters_outside if cluster not in excluded]:
        absent, at_most = _LESS[boundary]
        note(f"No energy {absent} was measured in {', '.join(less)}: these figures have no more than {at_most} there.")


def note_latest_clusters_outside(reader: LedgerReader, filter: Filter) -> None:
    """Print that note for the latest month: for series, which have no period."""
    from warehouse.chargeback.chargeback_queries import clusters_outside
    from warehouse.periods import resolve_period

    if filter.boundary is not None:
        note_clusters_outside(filter.boundary, clusters_outside(reader, resolve_period(reader), filter))


def note_nodes_without_host(
    reader: LedgerReader, period: Period, cluster: str | None, rows: Sequence[ChargebackRow]
) -> None:
    """Print a note if rows include hosts or walls of a cluster, but not those of all its nodes."""
    from warehouse.audit.boundaries import nodes_without_host

    if any(row.host_uj or row.wall_uj for row in rows):
        for lack in nodes_without_host(reader, period, cluster):
            note(
                f"{lack.nodes_without} of {lack.nodes} nodes of {lack.cluster} had energy of GPUs alone in the last "
                "hour: their hosts are not in these figures, those of the others are. `wattlog audit` names them."
            )
