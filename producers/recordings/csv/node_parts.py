"""Parts of nodes in a power file: hardware types whose energy would count twice beside each other."""

from __future__ import annotations

from collections.abc import Iterator

from contracts.boundary import HOST, WALL_LESS_GPUS, Boundary, contains_gpus, part_of
from contracts.errors import BadInput

MAX_PARTS = 100_000
"""Hardware types of nodes that are remembered. Those beyond are not compared."""
_LIKE_HOST = {"host", "cpu", "cpus", "dram", "memory"}


class NodeParts:
    """Hardware types of each node."""

    def __init__(self) -> None:
        self._parts: set[tuple[str, str, str]] = set()

    def add(self, cluster: str, node: str, hardware: str) -> None:
        """Note that a node has energy of a hardware type."""
        if len(self._parts) < MAX_PARTS:
            self._parts.add((cluster, node, hardware))

    def check(self) -> None:
        """Raise BadInput where energy of a node contains other energy of the same node."""
        by_node: dict[tuple[str, str], set[str]] = {}
        for cluster, node, hardware in sorted(self._parts):
            by_node.setdefault((cluster, node), set()).add(hardware)
        for (_, node), types in by_node.items():
            outer = next((hardware for hardware in sorted(types) if contains_gpus(hardware)), "")
            inner = types - {outer}
            if not outer and WALL_LESS_GPUS in types and HOST in types:
                outer, inner = WALL_LESS_GPUS, {HOST}
            if outer and inner:
                raise BadInput(
                    "hardware", outer,
                    f"contains {', '.join(sorted(inner)[:3])} of node {node}, whose energy would count twice: leave "
                    f"out one of them, or subtract the GPUs and name the rest {WALL_LESS_GPUS!r}",
                )  # fmt: skip

    def notes(self) -> Iterator[str]:
        """Yield a note on each name that is near that of a host, but counts as a GPU's."""
        for hardware in sorted({hardware for _, _, hardware in self._parts}):
            if part_of(hardware) is Boundary.GPU and hardware.casefold() in _LIKE_HOST:
                yield f"The hardware {hardware!r} counts as a GPU; CPUs and memory of a node are named {HOST!r}."
