"""NVIDIA GPUs through NVML: the thin adapter that gives readings. `pynvml` here is the package nvidia-ml-py.

* Energy: `nvmlDeviceGetTotalEnergyConsumption` (mJ since the driver was loaded; Volta and later), of the GPU. Asked
  once per GPU: one that does not support it is None for good, not 0. A counter at 0 is not believed either.
* Watts: field 186 (instant), else 185 (average of a second), else `nvmlDeviceGetPowerUsage`; the first that this GPU
  answers is kept for good, so that its watts are always of one kind. They are the GPU's own (scope 0).
* A GPU with neither counter nor watts of its own is read by its module's watts (scope 1), where there are some. On
  Grace Hopper the module has the CPU on it: such a GPU says so in its hardware's name, and in /metrics. Scopes never
  mix: the module's watts never stand in for a GPU's counter.
* MIG: power and energy are the board's, whatever its slices. A board is reported once, under its own UUID; NVML gives
  no utilisation for it, so that is None.
* `hardware` is NVML's product name with runs of blanks made one, and otherwise as it is: "NVIDIA H100 80GB HBM3". Idle
  floors and weights are looked up by it, so it must not be prettified differently in two places.
* A GPU that falls off the bus is reported once, skipped, and looked for again every RETRY_MS; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from contracts.errors import Unavailable
from producers.gpu.evidence import GPU, MODULE, Measurement
from producers.gpu.intervals import GpuReading
from producers.runtime.clock import Clock

log = logging.getLogger(__name__)

RETRY_MS = 60_000
_FIELDS = (186, 185)
"""NVML_FI_DEV_POWER_INSTANT, NVML_FI_DEV_POWER_AVERAGE (nvml.h), in milliwatts."""
_SCOPES = {GPU: 0, MODULE: 1}
"""NVML_POWER_SCOPE_GPU, NVML_POWER_SCOPE_MODULE."""
OF_MODULE = " (module)"
"""After the name of hardware whose joules are its module's: it has floors and weights of its own."""
_UNSIGNED_INT = 1
_HINT = "Is the NVIDIA driver installed, and is this process allowed to see the GPUs? Try `nvidia-smi`."


@dataclass(slots=True)
class _Gpu:
    uuid: str
    hardware: str
    handle: Any
    has_counter: bool
    mig: bool
    watts: Callable[[Any], float] | None = None
    scope: str = GPU
    settled: bool = False
    """Whether `watts` is decided for good, None too."""
    lost_ms: int | None = None


class NvmlSensor:
    """The GPUs of this node. Raises Unavailable where there is no driver, or no package to talk to it."""

    def __init__(self) -> None:
        self._nvml = load_nvml()
        self._uuids: dict[str, _Gpu] = {}
        nv = self._nvml
        for index in range(nv.nvmlDeviceGetCount()):
            try:
                gpu = self._probe(nv.nvmlDeviceGetHandleByIndex(index))
            except nv.NVMLError as error:
                log.error("GPU %d cannot be read and is left out: %s", index, error)
                continue
            self._uuids[gpu.uuid] = gpu

    @property
    def gpus(self) -> dict[str, str]:
        """The hardware of each GPU, by UUID."""
        return {gpu.uuid: gpu.hardware for gpu in self._uuids.values()}

    @property
    def measured(self) -> dict[str, Measurement]:
        """How each GPU is measured, by UUID."""
        return {gpu.uuid: Measurement(_evidence(gpu), gpu.scope, gpu.mig) for gpu in self._uuids.values()}

    @property
    def lost(self) -> list[str]:
        """UUIDs of GPUs that fell off and are not back."""
        return [gpu.uuid for gpu in self._uuids.values() if gpu.lost_ms is not None]

    def readings(self, clock: Clock) -> list[GpuReading]:
        """One reading of each GPU that is there. An error on one value makes that value None."""
        found = (self._read(gpu, clock) for gpu in self._uuids.values() if self._is_there(gpu, clock.monotonic_ms()))
        return [reading for reading in found if reading is not None]

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _probe(self, handle: Any) -> _Gpu:
        nv = self._nvml
        name = " ".join(nv.nvmlDeviceGetName(handle).split())
        gpu = _Gpu(nv.nvmlDeviceGetUUID(handle), name, handle, has_counter=True, mig=False)
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
        self._settle(gpu)
        if not gpu.has_counter:
            instead = f"the {gpu.scope}'s watts are integrated" if gpu.watts else "nothing measures it"
            log.warning("%s (%s) has no energy counter: %s", gpu.uuid, gpu.hardware, instead)
        return gpu

    def _read(self, gpu: _Gpu, clock: Clock) -> GpuReading | None:
        nv = self._nvml
        wall_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        try:
            counter_mj = self._try(nv.nvmlDeviceGetTotalEnergyConsumption, gpu) if gpu.has_counter else None
            if not gpu.settled:
                self._settle(gpu)
            watts = self._try(gpu.watts, gpu) if gpu.watts else None
            rates = None if gpu.mig else self._try(nv.nvmlDeviceGetUtilizationRates, gpu)
        except nv.NVMLError_GpuIsLost as error:
            gpu.lost_ms = monotonic_ms
            log.error("%s (%s) is lost, the rest goes on: %s", gpu.uuid, gpu.hardware, error)
            return None
        used = rates.gpu / 100 if rates is not None else None
        return GpuReading(gpu.uuid, gpu.hardware, wall_ms, monotonic_ms, counter_mj or None, watts, used)

    def _try(self, ask: Callable[[Any], Any], gpu: _Gpu) -> Any:
        """The answer, or None for any error but a lost GPU."""
        try:
            return ask(gpu.handle)
        except self._nvml.NVMLError_GpuIsLost:
            raise
        except self._nvml.NVMLError as error:
            log.debug("%s: %s", gpu.uuid, error)
            return None

    def _settle(self, gpu: _Gpu) -> None:
        """Decides where a GPU's watts come from: once, unless what did not answer may yet."""
        nv = self._nvml
        sources = [(GPU, self._field(field, GPU)) for field in _FIELDS]
        sources.append((GPU, lambda handle: nv.nvmlDeviceGetPowerUsage(handle) / 1000))
        sources += [(MODULE, self._field(field, MODULE)) for field in _FIELDS]
        unsure = False
        for scope, ask in sources:
            if scope == MODULE and (gpu.has_counter or unsure):
                break
            try:
                ask(gpu.handle)
            except nv.NVMLError as error:
                unsure |= not _is_unsupported(nv, error)
                continue
            gpu.watts, gpu.scope, gpu.settled = ask, scope, True
            if scope == MODULE:
                gpu.hardware += OF_MODULE
            return
        gpu.settled = not unsure

    def _field(self, field: int, scope: str) -> Callable[[Any], float]:
        def ask(handle: Any) -> float:
            value = self._nvml.nvmlDeviceGetFieldValues(handle, [(field, _SCOPES[scope])])[0]
            if value.nvmlReturn != 0:
                raise self._nvml.NVMLError(value.nvmlReturn)
            if value.valueType != _UNSIGNED_INT:
                raise self._nvml.NVMLError(self._nvml.NVML_ERROR_NOT_SUPPORTED)
            return float(value.value.uiVal) / 1000

        return ask

    def _is_there(self, gpu: _Gpu, monotonic_ms: int) -> bool:
        """Looks for a lost GPU again when it is time to: its handle is a new one then."""
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
    """UUIDs of this machine's GPUs by PCI address, `0000:01:00.0` as `lspci -D` has it. Raises Unavailable."""
    nv = load_nvml()
    found: dict[str, str] = {}
    try:
        for index in range(nv.nvmlDeviceGetCount()):
            handle = nv.nvmlDeviceGetHandleByIndex(index)
            domain, _, rest = nv.nvmlDeviceGetPciInfo(handle).busId.lower().partition(":")
            found[f"{domain[-4:]}:{rest}"] = nv.nvmlDeviceGetUUID(handle)
    except nv.NVMLError as error:
        raise Unavailable(f"NVML does not tell where its GPUs are: {error}", _HINT) from None
    finally:
        nv.nvmlShutdown()
    return found


def _evidence(gpu: _Gpu) -> str:
    if gpu.has_counter:
        return "counter"
    return "watts" if gpu.watts else "nothing"


def _is_unsupported(nv: ModuleType, error: Exception) -> bool:
    return isinstance(error, nv.NVMLError_NotSupported | nv.NVMLError_FunctionNotFound | nv.NVMLError_InvalidArgument)


def load_nvml() -> ModuleType:
    """pynvml, initialised. Raises Unavailable."""
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
