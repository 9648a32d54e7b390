"""`wattlog produce nvml`: NVIDIA GPUs of this node, through the driver's NVML."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from contracts.errors import Unavailable
from producers.api import Environment, Finding, Kind, NotHere, Plugin
from producers.bindings.claims import GpuBoard
from producers.gpu.evidence import MODULE
from producers.gpu.nvml.boards import NvmlBoards
from producers.gpu.nvml.sensor import NvmlSensor, uuids_by_pci
from producers.runtime.clock import Clock

log = logging.getLogger(__name__)

COMPARE_MS = 5_000
"""Time at the start in which counters are compared with watts, where modules have watts. Later readings go on."""
COMPARE_EVERY_S = 0.1


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

    def compare_scopes(self, clock: Clock) -> None:
        """Read the GPUs for some seconds where it is not known whether their counters are their modules'."""
        end_ms = clock.monotonic_ms() + COMPARE_MS
        while self.trials and clock.monotonic_ms() < end_ms:
            self.readings(clock)
            if clock.wait(COMPARE_EVERY_S):
                return
        for uuid in self.trials:
            log.warning("%s: it is not known yet if its energy counter is the GPU's or its module's", uuid)

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
    node.compare_scopes(environment.clock)
    return node


def check(options: None, environment: Environment) -> Iterator[Finding]:
    """Yield the number of GPUs, or a note that there is no driver."""
    try:
        node = build(options, environment)
    except Unavailable as error:
        yield "", NotHere(error.problem, error.hint)
        return
    count = len(node.discover())
    yield "", "1 GPU" if count == 1 else f"{count} GPUs"
    for uuid, measurement in node.measured.items():
        if measurement.scope == MODULE:
            yield uuid, f"{node.gpus[uuid]}: its {measurement.evidence} includes the module's CPU and memory"
    for uuid in node.trials:
        hint = "Run this again while the GPU works: then its watts and its module's differ."
        yield uuid, Unavailable("it is not known if the energy counter is the GPU's or its module's", hint)


PLUGIN = Plugin("nvml", Kind.GPU, "NVIDIA GPUs of this node, through the driver's NVML", build, check=check)
