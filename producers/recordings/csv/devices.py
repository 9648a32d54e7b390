"""Device of a row: its name, from the cells that identify it, and its scope."""

from __future__ import annotations

from collections import defaultdict

from contracts.errors import BadInput
from producers.recordings.csv.columns import IDENTITIES
from producers.recordings.csv.readings import PowerReading

MAX_NAMES = 100_000
"""GPUs, and workloads, of one recording."""
_LASTING = len(IDENTITIES) - 1
"""Identities that tell GPUs apart for sure: all but the serial number."""

Device = tuple[str, str]
"""A node, and the name of a GPU in it; "" where no cell names the GPU."""


def device_of(reading: PowerReading) -> Device:
    """Return the device by the best cell of the row itself."""
    return reading.node, next((_name(cell) for cell in reading.identity if cell), "")


def _name(cell: str) -> str:
    return f"gpu-{cell}" if cell.isdecimal() else cell


class Devices:
    """The devices of a file, gathered from all its rows.

    A row may lack the best name of its GPU, and have only its index: then the rows that have both tell the name. A row
    without any name is of the one GPU that its node has, if it has one.
    """

    def __init__(self, gpu: str) -> None:
        self._gpu = gpu
        self._names: dict[Device, set[str]] = defaultdict(set)
        self._on_node: dict[str, set[str]] = defaultdict(set)
        self._with_gpu_scope: set[Device] = set()
        self.rows_without_name = 0
        self.count = 0
        """Names of GPUs."""

    def add(self, reading: PowerReading) -> None:
        node, name = device_of(reading)
        if not name:
            self.rows_without_name += 1
        else:
            if name not in self._on_node[node]:
                self._on_node[node].add(name)
                self.count += 1
                if self.count > MAX_NAMES:
                    raise BadInput("gpu", name, f"more than {MAX_NAMES} GPUs; split the recording")
            for cell in reading.identity[:_LASTING]:
                if cell and _name(cell) != name and len(self._names) < MAX_NAMES:
                    self._names[node, _name(cell)].add(name)
        if reading.counter_uj is not None or reading.watts is not None:
            self._with_gpu_scope.add((node, name))

    def settle(self) -> None:
        """Take names that only rows without a better one use as those of the same GPUs. Call it behind the last row."""
        self._with_gpu_scope = {self.resolve(device) or device for device in self._with_gpu_scope}

    def resolve(self, device: Device) -> Device | None:
        """Return the device under its best name, or None for a row without a name on a node with several GPUs."""
        node, name = device
        if name:
            better = self._names.get(device, ())
            return (node, next(iter(better))) if len(better) == 1 else device
        names = {self._best(node, n) for n in self._on_node.get(node, ())}
        if not names:
            return node, self._gpu
        return (node, names.pop()) if len(names) == 1 else None

    def _best(self, node: str, name: str) -> str:
        better = self._names.get((node, name), ())
        return next(iter(better)) if len(better) == 1 else name

    def has_gpu_scope(self, device: Device) -> bool:
        """Return True if any row has a value of the GPU itself: then its module's watts are not used."""
        return device in self._with_gpu_scope
