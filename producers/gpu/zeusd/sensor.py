"""GPU sensor that reads zeusd.

* A GPU with a cumulative counter that zeusd trusts is read by the counter, and also by its power, for the stretch
  across a reset. zeusd is asked once which GPUs have a counter.

* A GPU without a counter is integrated from watts, which are polled or streamed.

* zeusd knows GPUs by an index that means nothing elsewhere. A GPU's UUID is the configured one; else the driver's, by
  PCI address, where zeusd is of this machine (its socket) and the driver is within reach.

* Failing both, its name is `zeusd-NODE-INDEX`, which stays the same as long as no GPU is added or removed.

* A dual-die AMD MI250 or MI250X reports the power of both dies under the even index: the odd one is left out.

* zeusd passes NVML's counter on, which on Grace Hopper is the module's (https://github.com/ml-energy/zeus/pull/172),
  and watts of the GPU alone. Such a GPU is named as a module, and its watts are not used: scopes never mix.

* A counter or watts that cannot be read are None, never 0. A counter at 0 is not believed either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from contracts.errors import Unavailable
from producers.common.printable import printable
from producers.common.zeusd_client import ZeusdClient, ZeusdGpu
from producers.gpu.evidence import GPU, MODULE, OF_MODULE, GpuMeasurement
from producers.gpu.plausibility import MAX_WATTS
from producers.gpu.readings import GpuReading
from producers.runtime.clock import Clock
from producers.runtime.refusals import ItemRefusal, at_place

log = logging.getLogger(__name__)

DUAL_DIE = ("MI250",)
COUNTS_MODULE = ("GH200",)
"""Products whose counters count the module, CPU and memory included."""
DISCOVER_MS = 60_000
"""How often zeusd is asked for its GPUs: one that started again between two readings may have others."""


class PowerSample(NamedTuple):
    """Watts of a GPU at the time of their arrival."""

    t_ms: int
    monotonic_ms: int
    watts: float


class StreamedPower(Protocol):
    """Watts as zeusd streams them: `producers.gpu.zeusd.power_stream.PowerStream`."""

    def start(self, gpus: Sequence[int]) -> None: ...
    def drain(self) -> Mapping[int, Sequence[PowerSample]]:
        """Return the samples since the last call, by GPU index. GPUs without a sample are not in it."""
        ...

    def drain_refused(self) -> Sequence[str]:
        """Return a sentence on each malformed event since the last call."""
        ...


class _ProbedGpu(NamedTuple):
    number: int
    uuid: str
    hardware: str
    has_counter: bool
    scope: str = GPU


class ZeusdSensor:
    """Sensor of a daemon's GPUs.

    `uuids` are configured UUIDs by index, `by_pci` returns the driver's by PCI address, and `hardware` names the
    product of GPUs that zeusd does not name.
    """

    kind = "zeusd"

    def __init__(
        self, zeusd: ZeusdClient, node: str, *, uuids: Mapping[int, str] | None = None, hardware: str = "",
        by_pci: Callable[[], Mapping[str, str]] = dict, stream: StreamedPower | None = None,
    ) -> None:  # fmt: skip
        self._zeusd, self._node, self._hardware = zeusd, node, hardware
        self._uuids, self._by_pci, self._stream = uuids or {}, by_pci, stream
        self._gpus: dict[int, _ProbedGpu] | None = None
        """By index; None until they are probed."""
        self._discovered: tuple[ZeusdGpu, ...] = ()
        self._discovered_ms = 0
        self._refused: list[str] = []

    def discover(self) -> list[str]:
        """Return the UUIDs of the daemon's GPUs. Raises Unavailable where it cannot be reached or knows none."""
        return [gpu.uuid for gpu in self._probed().values()]

    @property
    def measured(self) -> dict[str, GpuMeasurement]:
        """Evidence of each GPU, by UUID."""
        gpus = (self._gpus or {}).values()
        return {gpu.uuid: GpuMeasurement("counter" if gpu.has_counter else "watts", gpu.scope) for gpu in gpus}

    def readings(self, clock: Clock) -> list[GpuReading]:
        """Return readings of each GPU that zeusd can read. Raises Unavailable where it cannot be reached."""
        try:
            self._discover_when_due(clock.monotonic_ms())
            gpus = self._probed()
            counters, counter_errors = self._zeusd.gpu_energy_mj([g.number for g in gpus.values() if g.has_counter])
            streamed = self._stream.drain() if self._stream else {}
            power_mw, power_errors = self._zeusd.gpu_power_mw([index for index in gpus if index not in streamed])
        except Unavailable:
            self._gpus = None  # A daemon that returns may have other GPUs.
            raise
        for errors in (counter_errors, power_errors):
            for index, error in errors.items():
                if isinstance(error, ItemRefusal):
                    self._refused.append(at_place(gpus[index].uuid, error))
                else:  # zeusd cannot read it, which for watts of some GPUs is always so.
                    log.debug("%s: %s", gpus[index].uuid, error)
        t_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        readings: list[GpuReading] = []
        for index, gpu in gpus.items():
            for sample in streamed.get(index, ()):
                readings.append(
                    GpuReading(gpu.uuid, gpu.hardware, sample.t_ms, sample.monotonic_ms, None, sample.watts)
                )
            watts = to_watts(power_mw.get(index)) if gpu.scope == GPU else None
            counter_mj = counters.get(index) or None
            if index not in streamed and (watts is not None or counter_mj is not None):
                readings.append(GpuReading(gpu.uuid, gpu.hardware, t_ms, monotonic_ms, counter_mj, watts))
        return readings

    def drain_refused(self) -> list[str]:
        """Return a sentence on each malformed value since the last call."""
        refused, self._refused = self._refused, []
        return [*refused, *(self._stream.drain_refused() if self._stream else ())]

    def _discover_when_due(self, monotonic_ms: int) -> None:
        """Every DISCOVER_MS, ask zeusd for its GPUs, and let them be probed again if they are others."""
        if monotonic_ms - self._discovered_ms < DISCOVER_MS:
            return
        self._discovered_ms = monotonic_ms
        if self._gpus is not None and self._zeusd.discover().gpus != self._discovered:
            self._gpus = None

    def _probed(self) -> dict[int, _ProbedGpu]:
        """Return the GPUs, which are probed once per run of zeusd."""
        if self._gpus is None:
            self._discovered = self._zeusd.discover().gpus
            gpus = [gpu for gpu in self._discovered if not _is_second_die(gpu)]
            if not gpus:
                raise Unavailable(f"{self._zeusd.url} knows no GPU", "Try `nvidia-smi` or `amd-smi` where it runs.")
            unknown = [gpu.id for gpu in gpus if gpu.cumulative_energy_available is None]
            counters, errors = self._zeusd.gpu_energy_mj(unknown)
            by_pci = self._by_pci() if self._zeusd.is_local else {}
            self._gpus = {
                gpu.id: self._probe(gpu, bool(gpu.cumulative_energy_available) or gpu.id in counters, by_pci)
                for gpu in gpus
            }
            without_counter = [gpu for gpu in self._gpus.values() if not gpu.has_counter]
            for gpu in without_counter:
                reason = errors.get(gpu.number, "zeusd does not trust it")
                log.warning("%s has no energy counter (%s): its watts are integrated", gpu.uuid, reason)
            if self._stream:
                self._stream.start([gpu.number for gpu in without_counter])
        return self._gpus

    def _probe(self, gpu: ZeusdGpu, has_counter: bool, by_pci: Mapping[str, str]) -> _ProbedGpu:
        address = (gpu.pci_address or "").lower()
        uuid = self._uuids.get(gpu.id) or by_pci.get(address) or f"zeusd-{self._node}-{gpu.id}"
        hardware = printable(" ".join(gpu.name.split())) or self._hardware or "unknown"
        if has_counter and any(product in hardware for product in COUNTS_MODULE):
            return _ProbedGpu(gpu.id, printable(uuid), hardware + OF_MODULE, has_counter, MODULE)
        return _ProbedGpu(gpu.id, printable(uuid), hardware, has_counter)


def to_watts(power_mw: int | None) -> float | None:
    """Return mW as watts; None for a value that is no power."""
    return power_mw / 1000 if power_mw is not None and 0 <= power_mw <= 1000 * MAX_WATTS else None


def _is_second_die(gpu: ZeusdGpu) -> bool:
    return gpu.id % 2 == 1 and any(name in gpu.name for name in DUAL_DIE)
