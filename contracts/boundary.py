"""Boundaries of energy: a node's GPUs alone, with its host, or all that its power supply draws.

Which part of a node a device's energy is, follows from the device's hardware type. `HOST` and `WALL_LESS_GPUS` are
devices of their own, one for each node, beside its GPUs. A node has one of them at most, because the second contains
the first.
"""

from __future__ import annotations

from enum import StrEnum

HOST = "host"
"""Hardware type of a node's CPUs and memory."""
WALL_LESS_GPUS = "wall less GPUs"
"""Hardware type of all that a node draws from the wall, less its GPUs."""
WALL_PREFIX = "wall "
"""Hardware types that begin so are metered at the wall. All but `WALL_LESS_GPUS` have GPUs in them."""


class Boundary(StrEnum):
    """Parts of a node whose energy counts, from the narrowest to the widest."""

    GPU = "gpu"
    """GPUs, as their own counters show them."""
    HOST = "host"
    """GPUs, and their nodes' CPUs and memory."""
    WALL = "wall"
    """All that the nodes draw from the wall."""


def contains_gpus(hardware: str) -> bool:
    """Return True for a hardware type that is metered at the wall, GPUs included."""
    return hardware.startswith(WALL_PREFIX) and hardware != WALL_LESS_GPUS


def part_of(hardware: str) -> Boundary:
    """Return the narrowest boundary that energy of this hardware type is within.

    What is no GPU does no work of its own: tokens count at the GPUs beside it, where those have energy.
    """
    if hardware == HOST:
        return Boundary.HOST
    return Boundary.WALL if hardware.startswith(WALL_PREFIX) else Boundary.GPU
