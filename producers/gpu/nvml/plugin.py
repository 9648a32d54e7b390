"""`wattlog produce nvml`: NVIDIA GPUs of this node, through the driver's NVML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from contracts.errors import Unavailable
from producers.api import Environment, Finding, Kind, NotHere, Plugin
from producers.bindings.claims import GpuBoard
from producers.gpu.nvml.boards import NvmlBoards
from producers.gpu.nvml.sensor import NvmlSensor, uuids_by_pci


class NvmlNode(NvmlSensor):
    """NVML's GPUs as a sensor that has an inventory."""

    kind = "nvml"

    def __init__(self) -> None:
        super().__init__()
        self._boards = NvmlBoards()

    def discover(self) -> Sequence[str]:
        """Return the GPUs' UUIDs. Raises Unavailable where there are none."""
        if not self.gpus:
            raise Unavailable("NVML sees no GPU on this node", "Try `nvidia-smi`; in a container, give it the GPUs.")
        return list(self.gpus)

    def boards(self) -> Sequence[GpuBoard]:
        return self._boards.boards()

    def running(self) -> Mapping[str, Sequence[int]]:
        return self._boards.running()

    def pci_addresses(self) -> Mapping[str, str]:
        return uuids_by_pci()

    def close(self) -> None:
        self._boards.close()
        super().close()


def build(options: None, environment: Environment) -> NvmlNode:
    """Open NVML. Raises Unavailable without a driver or a GPU."""
    node = environment.resources.enter_context(closing(NvmlNode()))
    node.discover()
    return node


def check(options: None, environment: Environment) -> Iterator[Finding]:
    """Yield the number of GPUs, or a note that there is no driver."""
    try:
        yield "", f"{len(build(options, environment).discover())} GPUs"
    except Unavailable as error:
        yield "", NotHere(error.problem, error.hint)


PLUGIN = Plugin("nvml", Kind.GPU, "NVIDIA GPUs of this node, through the driver's NVML", build, check=check)
