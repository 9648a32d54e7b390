"""Boundaries of figures in the words of commands: what they include, and clusters without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.ledger_access import resolve
from cli.output import note
from contracts.boundary import Boundary

if TYPE_CHECKING:
    from warehouse.filters import Filter
    from warehouse.reader import LedgerReader

PART_NAMES = {Boundary.GPU: "GPUs", Boundary.HOST: "hosts", Boundary.WALL: "wall"}
"""Names of a node's parts."""
_OUTSIDE = {
    Boundary.GPU: ("No energy of GPUs alone was measured", "nothing of it is in these figures"),
    Boundary.HOST: ("No energy of hosts was measured", "these figures have no more than GPUs there"),
    Boundary.WALL: ("No energy was measured at the wall", "these figures have no more than GPUs and hosts there"),
}


def note_clusters_outside(boundary: Boundary | None, clusters: list[str]) -> None:
    """Print a note if clusters have no energy of the part that the boundary is named for."""
    if boundary is not None and clusters:
        beginning, end = _OUTSIDE[boundary]
        note(f"{beginning} in {', '.join(clusters)}: {end}.")


def note_latest_clusters_outside(reader: LedgerReader, filter: Filter) -> None:
    """Print that note for the latest month: for series, which have no period."""
    from warehouse.chargeback.chargeback_queries import clusters_outside

    if filter.boundary is not None:
        note_clusters_outside(filter.boundary, clusters_outside(reader, resolve(reader, None, None, None), filter))
