"""GPU sensor for NVIDIA GPUs, through the driver's library NVML. `pynvml` is the package nvidia-ml-py.

* Energy: `nvmlDeviceGetTotalEnergyConsumption`, mJ since the driver was loaded, Volta and later. Each GPU is
  asked once: one that does not support it is None from then on, not 0.
* Power limit: `nvmlDeviceGetPowerManagementLimit`, which bounds how far a counter may plausibly advance.
* Watts: field 186 (instant), else 185 (average of a second), else `nvmlDeviceGetPowerUsage`. The first that a GPU
  answers is kept, so that its watts are always of one kind. They are the GPU's own (scope 0).
* Module: on Grace Hopper it includes the CPU. A GPU with neither counter nor watts of its own is read by its module's
  watts (scope 1), where there are some. A GPU whose counter advances as its module's watts say
  (`producers.gpu.nvml.scope`) is read by that counter and those watts. Both say so in the hardware's name, and in
  /metrics. Scopes never mix: a module's watts never replace a GPU's counter.
* MIG: power and energy are the board's, whatever its slices. A board is reported once, under its own UUID. NVML gives
  no utilisation for it, so that is None.
* `hardware` is NVML's product name with runs of blanks made one, and otherwise unchanged: "NVIDIA H100 80GB HBM3". Idle
  floors and weights are looked up by it, so it is normalised in this one place.
* A GPU that falls off the bus is logged once, left out, and looked for again every RETRY_MS. The other GPUs are read.
  So often new GPUs are looked for too, and those that NVML no longer lists are lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from contracts.errors import Unavailable
from producers.common.printable import printable
from producers.gpu.evidence import GPU, MODULE, OF_MODULE, GpuMeasurement
from producers.gpu.nvml.scope import ScopeTrial
from producers.gpu.readings import GpuReading
from producers.runtime.clock import Clock
from producers.runtime.refusals import read_each

log = logging.getLogger(__name__)

RETRY_MS = 60_000
_FIELDS = (186, 185)
"""NVML_FI_DEV_POWER_INSTANT, NVML_FI_DEV_POWER_AVERAGE (nvml.h), in milliwatts."""
_SCOPES = {GPU: 0, MODULE: 1}
"""NVML_POWER_SCOPE_GPU, NVML_POWER_SCOPE_MODULE."""
_UNSIGNED_INT = 1
_HINT = "Is the NVIDIA driver installed, and is this process allowed to see the GPUs? Try `nvidia-smi`."


@dataclass(slots=True)
class _NvmlGpu:
    uuid: str
    hardware: str
    handle: Any
    has_counter: bool
    mig: bool
    limit_w: float | None = None
    watts: Callable[[Any], float] | None = None
    scope: str = GPU
    has_final_watts: bool = False
    """`watts` is decided and is not looked for again, also where it is None."""
    module_watts: Callable[[Any], float] | None = None
    trial: ScopeTrial | None = None
    """Comparison of its counter with both scopes, until one fits; None where only one can be read."""
    lost_ms: int | None = None
    """Monotonic time at which the GPU was lost, None while it is there."""


class NvmlSensor:
    """Sensor of this node's GPUs. Raises Unavailable without a driver, or without the package that calls it."""

    def __init__(self) -> None:
        nv = self._nvml = load_nvml()
        self._gpus: dict[str, _NvmlGpu] = {}
        """By UUID."""
        self._refused: list[str] = []
        self._scan_ms: int | None = None
        """Monotonic time at which the next scan is counted from, None before the first reading."""
        try:
            self._scan()
        except nv.NVMLError as error:
            nv.nvmlShutdown()
            raise Unavailable(f"NVML does not count its GPUs: {error}", _HINT) from None

    @property
    def gpus(self) -> dict[str, str]:
        """Hardware of each GPU, by UUID."""
        return {gpu.uuid: gpu.hardware for gpu in self._gpus.values()}

    @property
    def measured(self) -> dict[str, GpuMeasurement]:
        """Evidence and scope of each GPU, by UUID."""
        return {gpu.uuid: GpuMeasurement(_evidence(gpu), gpu.scope, gpu.mig) for gpu in self._gpus.values()}

    @property
    def trials(self) -> list[str]:
        """UUIDs of GPUs of which it is not known yet whether the counter is theirs or their module's."""
        return [gpu.uuid for gpu in self._gpus.values() if gpu.trial is not None and gpu.lost_ms is None]

    @property
    def lost(self) -> list[str]:
        """UUIDs of GPUs that were lost and have not returned."""
        return [gpu.uuid for gpu in self._gpus.values() if gpu.lost_ms is not None]

    def readings(self, clock: Clock) -> list[GpuReading]:
        """Return a reading of each GPU that is there. An error on one value makes that value None."""

        def read(gpu: _NvmlGpu) -> GpuReading | None:
            return self._read(gpu, clock) if self._is_there(gpu, clock.monotonic_ms()) else None

        self._scan_when_due(clock.monotonic_ms())
        placed = ((uuid, gpu) for uuid, gpu in self._gpus.items())
        return [reading for reading in read_each(placed, read, self._refused) if reading is not None]

    def drain_refused(self) -> list[str]:
        """Return a sentence on each GPU that could not be read since the last call, for another reason than NVML's."""
        refused, self._refused = self._refused, []
        return refused

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _scan_when_due(self, monotonic_ms: int) -> None:
        """Every RETRY_MS, add the GPUs that NVML lists and that are not known. Those it no longer lists are lost."""
        if self._scan_ms is None:
            self._scan_ms = monotonic_ms
        if monotonic_ms - self._scan_ms < RETRY_MS:
            return
        self._scan_ms = monotonic_ms
        try:
            listed = self._scan()
        except self._nvml.NVMLError as error:
            log.debug("NVML does not count its GPUs: %s", error)
            return
        for gpu in self._gpus.values():
            if gpu.lost_ms is None and gpu.uuid not in listed:
                gpu.lost_ms = monotonic_ms
                log.error("%s (%s) is lost, the other GPUs are read: NVML does not list it", gpu.uuid, gpu.hardware)

    def _scan(self) -> set[str]:
        """Add the GPUs that are not known yet; return the UUIDs of all that NVML lists.

        GPUs that do not answer are refused one by one, and with them those that cannot be named: none of them counts
        as no longer listed.
        """
        nv, listed = self._nvml, set[str]()
        errors: list[str] = []

        def read(index: int) -> None:
            handle = nv.nvmlDeviceGetHandleByIndex(index)
            uuid = printable(nv.nvmlDeviceGetUUID(handle))
            listed.add(uuid)
            if uuid in self._gpus:
                self._gpus[uuid].handle = handle
            else:
                self._gpus[uuid] = self._probe(handle)

        placed = [(f"GPU {index}", index) for index in range(nv.nvmlDeviceGetCount())]
        for _ in read_each(placed, read, errors):
            pass
        self._refused += errors
        return listed | set(self._gpus) if errors else listed

    def _probe(self, handle: Any) -> _NvmlGpu:
        nv = self._nvml
        hardware = printable(" ".join(nv.nvmlDeviceGetName(handle).split()))
        gpu = _NvmlGpu(printable(nv.nvmlDeviceGetUUID(handle)), hardware, handle, has_counter=True, mig=False)
        try:
            nv.nvmlDeviceGetTotalEnergyConsumption(handle)
        except (nv.NVMLError_NotSupported, nv.NVMLError_FunctionNotFound):
            gpu.has_counter = False
        except nv.NVMLError as error:
            log.warning("%s: its energy counter did not answer at first: %s", gpu.uuid, error)
        try:
            gpu.mig = nv.nvmlDeviceGetMigMode(handle)[0] == 1
        except nv.NVMLError:
            gpu.mig = False
        if gpu.mig:
            log.info("%s is split by MIG: power and energy are the board's, reported once", gpu.uuid)
        try:
            gpu.limit_w = nv.nvmlDeviceGetPowerManagementLimit(handle) / 1000
        except nv.NVMLError:
            gpu.limit_w = None
        self._choose_watts(gpu)
        if gpu.has_counter:
            self._begin_trial(gpu)
        else:
            fallback = f"the {gpu.scope}'s watts are integrated" if gpu.watts else "nothing measures it"
            log.warning("%s (%s) has no energy counter: %s", gpu.uuid, gpu.hardware, fallback)
        return gpu

    def _read(self, gpu: _NvmlGpu, clock: Clock) -> GpuReading | None:
        nv = self._nvml
        wall_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        try:
            counter_mj = self._value(nv.nvmlDeviceGetTotalEnergyConsumption, gpu) if gpu.has_counter else None
            if not gpu.has_final_watts:
                self._choose_watts(gpu)
            watts = self._value(gpu.watts, gpu) if gpu.watts else None
            if gpu.trial and counter_mj is not None:
                self._try_scopes(gpu, gpu.trial, monotonic_ms, counter_mj, watts)
                watts = self._value(gpu.watts, gpu) if gpu.scope == MODULE and gpu.watts else watts
            rates = None if gpu.mig else self._value(nv.nvmlDeviceGetUtilizationRates, gpu)
        except nv.NVMLError_GpuIsLost as error:
            gpu.lost_ms = monotonic_ms
            log.error("%s (%s) is lost, the other GPUs are read: %s", gpu.uuid, gpu.hardware, error)
            return None
        utilisation = rates.gpu / 100 if rates is not None else None
        return GpuReading(
            gpu_uuid=gpu.uuid,
            hardware=gpu.hardware,
            t_ms=wall_ms,
            monotonic_ms=monotonic_ms,
            counter_mj=counter_mj,
            watts=watts,
            utilisation=utilisation,
            limit_w=gpu.limit_w if gpu.scope == GPU else None,
        )

    def _value(self, read: Callable[[Any], Any], gpu: _NvmlGpu) -> Any:
        """Return the value, or None for any error but a lost GPU."""
        try:
            return read(gpu.handle)
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except self._nvml.NVMLError as error:
            log.debug("%s: %s", gpu.uuid, error)
            return None

    def _choose_watts(self, gpu: _NvmlGpu) -> None:
        """Choose the source of a GPU's watts. The choice is final, unless a source failed that may answer later."""
        nv = self._nvml
        sources = [(GPU, self._field(field, GPU)) for field in _FIELDS]
        sources.append((GPU, lambda handle: nv.nvmlDeviceGetPowerUsage(handle) / 1000))
        sources += [(MODULE, self._field(field, MODULE)) for field in _FIELDS]
        unsure = False
        for scope, read in sources:
            if scope == MODULE and (gpu.has_counter or unsure):
                break
            try:
                read(gpu.handle)
            except nv.NVMLError as error:
                unsure |= not _is_unsupported(nv, error)
                continue
            gpu.watts, gpu.scope, gpu.has_final_watts = read, scope, True
            if scope == MODULE:
                gpu.hardware += OF_MODULE
            return
        gpu.has_final_watts = not unsure

    def _begin_trial(self, gpu: _NvmlGpu) -> None:
        """Compare the counter of a GPU from now on, where the watts of its module can be read."""
        for field in _FIELDS:
            read = self._field(field, MODULE)
            try:
                read(gpu.handle)
            except self._nvml.NVMLError:
                continue
            gpu.module_watts, gpu.trial = read, ScopeTrial()
            return

    def _try_scopes(
        self, gpu: _NvmlGpu, trial: ScopeTrial, monotonic_ms: int, counter_mj: int, gpu_watts: float | None
    ) -> None:
        """Add a reading to a GPU's trial. Where the module fits, the GPU is named and read as one from then on."""
        module_watts = self._value(gpu.module_watts, gpu) if gpu.module_watts else None
        watts = {scope: w for scope, w in ((GPU, gpu_watts), (MODULE, module_watts)) if w is not None}
        scope = trial.add(monotonic_ms, counter_mj, watts)
        if scope is None:
            return
        gpu.trial = None
        draws = ", ".join(f"the {name} draws {w:.0f} W" for name, w in watts.items())
        log.info("%s (%s): its energy counter is the %s's: %s", gpu.uuid, gpu.hardware, scope, draws)
        if scope == MODULE:
            gpu.scope, gpu.watts, gpu.has_final_watts = MODULE, gpu.module_watts, True
            gpu.hardware += OF_MODULE

    def _field(self, field: int, scope: str) -> Callable[[Any], float]:
        def read(handle: Any) -> float:
            value = self._nvml.nvmlDeviceGetFieldValues(handle, [(field, _SCOPES[scope])])[0]
            if value.nvmlReturn != 0:
                raise self._nvml.NVMLError(value.nvmlReturn)
            if value.valueType != _UNSIGNED_INT:
                raise self._nvml.NVMLError(self._nvml.NVML_ERROR_NOT_SUPPORTED)
            return float(value.value.uiVal) / 1000

        return read

    def _is_there(self, gpu: _NvmlGpu, monotonic_ms: int) -> bool:
        """Return False for a lost GPU. Every RETRY_MS it is looked for again, by a new handle."""
        if gpu.lost_ms is None:
            return True
        if monotonic_ms - gpu.lost_ms < RETRY_MS:
            return False
        try:
            gpu.handle = self._nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
        except self._nvml.NVMLError:
            gpu.lost_ms = monotonic_ms
            return False
        gpu.lost_ms = None
        log.warning("%s (%s) answers again", gpu.uuid, gpu.hardware)
        return True


def uuids_by_pci() -> dict[str, str]:
    """Return UUIDs of this machine's GPUs by PCI address, `0000:01:00.0` as `lspci -D` shows it. Raises Unavailable."""
    nv = load_nvml()
    uuids: dict[str, str] = {}
    try:
        for index in range(nv.nvmlDeviceGetCount()):
            handle = nv.nvmlDeviceGetHandleByIndex(index)
            domain, _, address = nv.nvmlDeviceGetPciInfo(handle).busId.lower().partition(":")
            uuids[f"{domain[-4:]}:{address}"] = nv.nvmlDeviceGetUUID(handle)
    except nv.NVMLError as error:
        raise Unavailable(f"NVML does not give the PCI addresses of its GPUs: {error}", _HINT) from None
    finally:
        nv.nvmlShutdown()
    return uuids


def _evidence(gpu: _NvmlGpu) -> str:
    if gpu.has_counter:
        return "counter"
    return "watts" if gpu.watts else "nothing"


def _is_unsupported(nv: ModuleType, error: Exception) -> bool:
    return isinstance(error, nv.NVMLError_NotSupported | nv.NVMLError_FunctionNotFound | nv.NVMLError_InvalidArgument)


def load_nvml() -> ModuleType:
    """Return pynvml, initialised. Raises Unavailable."""
    try:
        import pynvml
    except ImportError:
        raise Unavailable("The package nvidia-ml-py is not installed", "Run `pip install 'wattlog[agent]'`.") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise Unavailable(f"NVML does not start: {error}", _HINT) from None
    module: ModuleType = pynvml
    return module
