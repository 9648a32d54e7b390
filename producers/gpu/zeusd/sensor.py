"""A node's GPUs through zeusd: gives readings; the agent makes intervals of them, as of NVML's.

* A GPU with a cumulative counter that zeusd trusts is read by it, and its power beside it, for the stretch across a
  counter that began anew. zeusd is asked once whether a GPU has one; one that has none is integrated from watts:
  polled, or as zeusd streams them.
* zeusd knows GPUs by an index that means nothing elsewhere. Their UUID is, in this order: the one that the
  configuration gives; the driver's, by PCI address, where zeusd is of this machine (its socket) and NVML is within
  reach; else `zeusd-NODE-INDEX`, which stays the same as long as no GPU is added or taken away.
* A dual-die AMD MI250 or MI250X reports the power of both dies under the even index: the odd one is left out.
* A counter or watts that cannot be read are None, never 0. Neither is a counter that stands at 0 believed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from contracts.errors import Unavailable
from producers.common.zeusd_client import ZeusdClient, ZeusdGpu
from producers.gpu.evidence import GPU, Measurement
from producers.gpu.intervals import GpuReading
from producers.runtime.clock import Clock

log = logging.getLogger(__name__)

DUAL_DIE = ("MI250",)


class _ProbedGpu(NamedTuple):
    number: int
    uuid: str
    hardware: str
    has_counter: bool


class StreamedPower(Protocol):
    """Watts as zeusd sends them: `zeusd.stream.PowerStream`."""

    def start(self, gpus: Sequence[int]) -> None: ...
    def take(self) -> Mapping[int, Sequence[tuple[int, int, float]]]:
        """What has come since, by GPU: (wall ms, monotonic ms, watts)."""
        ...


class ZeusdSensor:
    """See the module. `uuids` are by index, `by_pci` gives the driver's UUIDs by PCI address; `hardware` names what
    zeusd does not."""

    def __init__(
        self, zeusd: ZeusdClient, node: str, *, uuids: Mapping[int, str] | None = None, hardware: str = "",
        by_pci: Callable[[], Mapping[str, str]] = dict, stream: StreamedPower | None = None,
    ) -> None:  # fmt: skip
        self._zeusd, self._node, self._hardware = zeusd, node, hardware
        self._uuids, self._by_pci, self._stream = uuids or {}, by_pci, stream
        self._known: dict[int, _ProbedGpu] | None = None

    kind = "zeusd"

    def discover(self) -> list[str]:
        """Return the UUIDs of the daemon's GPUs. Raises Unavailable where it cannot be reached or knows none."""
        return [gpu.uuid for gpu in self._found().values()]

    @property
    def measured(self) -> dict[str, Measurement]:
        """How each GPU is measured, by UUID."""
        known = (self._known or {}).values()
        return {each.uuid: Measurement("counter" if each.has_counter else "watts", GPU) for each in known}

    def readings(self, clock: Clock) -> list[GpuReading]:
        """At least one reading of each GPU that zeusd can read. Raises Unavailable where it cannot be reached."""
        try:
            known = self._found()
            counted = [gpu.number for gpu in known.values() if gpu.has_counter]
            counters, failed = self._zeusd.gpu_energy_mj(counted)
            streamed = self._stream.take() if self._stream else {}
            watts, dark = self._zeusd.gpu_power_mw([index for index in known if index not in streamed])
        except Unavailable:
            self._known = None  # A daemon that comes back may have other GPUs.
            raise
        for index, why in (failed | dark).items():
            log.debug("%s: %s", known[index].uuid, why)
        t_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        found: list[GpuReading] = []
        for index, gpu in known.items():
            for at_ms, at_monotonic_ms, w in streamed.get(index, ()):
                found.append(GpuReading(gpu.uuid, gpu.hardware, at_ms, at_monotonic_ms, None, w))
            mw, counter_mj = watts.get(index), counters.get(index) or None
            if index not in streamed and (mw is not None or counter_mj is not None):
                power = None if mw is None else mw / 1000
                found.append(GpuReading(gpu.uuid, gpu.hardware, t_ms, monotonic_ms, counter_mj, power))
        return found

    def _found(self) -> dict[int, _ProbedGpu]:
        """The GPUs, probed once a run of zeusd."""
        if self._known is None:
            gpus = [gpu for gpu in self._zeusd.discover().all_gpus() if not _second_die(gpu)]
            if not gpus:
                raise Unavailable(f"{self._zeusd.url} knows no GPU", "Try `nvidia-smi` or `amd-smi` where it runs.")
            told = {gpu.id: gpu.cumulative_energy_available for gpu in gpus}
            counters, without = self._zeusd.gpu_energy_mj([index for index, has in told.items() if has is None])
            by_pci = self._by_pci() if self._zeusd.is_local else {}
            self._known = {gpu.id: self._known_as(gpu, told[gpu.id] or gpu.id in counters, by_pci) for gpu in gpus}
            for each in self._known.values():
                if not each.has_counter:
                    why = without.get(each.number, "zeusd does not trust it")
                    log.warning("%s has no energy counter (%s): its watts are integrated", each.uuid, why)
            if self._stream:
                self._stream.start([each.number for each in self._known.values() if not each.has_counter])
        return self._known

    def _known_as(self, gpu: ZeusdGpu, has_counter: bool, by_pci: Mapping[str, str]) -> _ProbedGpu:
        uuid = self._uuids.get(gpu.id) or by_pci.get(_pci(gpu.pci_address)) or f"zeusd-{self._node}-{gpu.id}"
        return _ProbedGpu(gpu.id, uuid, " ".join(gpu.name.split()) or self._hardware or "unknown", has_counter)


def _second_die(gpu: ZeusdGpu) -> bool:
    return gpu.id % 2 == 1 and any(name in gpu.name for name in DUAL_DIE)


def _pci(address: str | None) -> str:
    """As `GpuInventory.pci_addresses` has it."""
    return (address or "").lower()
