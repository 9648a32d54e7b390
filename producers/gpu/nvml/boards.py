"""Boards of this node with their MIG instances, and the processes that compute on them, through NVML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from contracts.errors import Unavailable
from producers.bindings.claims import GpuBoard
from producers.gpu.nvml import sensor


class NvmlBoards:
    """Reader of boards. Raises Unavailable without a driver. MIG instances are listed anew each time: they change."""

    def __init__(self) -> None:
        self._nvml = sensor.load_nvml()

    def boards(self) -> tuple[GpuBoard, ...]:
        """Return every GPU that answers.

        An instance whose slices NVML does not give is left out: a claim of it is then reported as unknown.
        """
        return tuple(self._board(index, handle) for index, handle in self._handles())

    def running(self) -> dict[str, tuple[int, ...]]:
        """Return process ids by the UUID of the GPU, or of the MIG instance, that they compute on."""
        nv, pids_by_device = self._nvml, dict[str, tuple[int, ...]]()
        for _, handle in self._handles():
            for device in (handle, *(instance for _, instance in self._instances(handle))):
                try:
                    pids = tuple(sorted(p.pid for p in nv.nvmlDeviceGetComputeRunningProcesses(device)))
                    pids_by_device[nv.nvmlDeviceGetUUID(device)] = pids
                except nv.NVMLError as error:
                    # A board in MIG mode may not list processes; its instances do.
                    if device is not handle or not self._is_mig(handle):
                        raise Unavailable(f"NVML does not list processes: {error}", "Try `nvidia-smi`.") from None
            if self._is_mig(handle):
                pids_by_device.pop(nv.nvmlDeviceGetUUID(handle), None)  # It repeats those of its instances.
        return pids_by_device

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _handles(self) -> Iterator[tuple[int, Any]]:
        """Yield number and handle of each GPU that answers."""
        nv = self._nvml
        try:
            for index in range(nv.nvmlDeviceGetCount()):
                try:
                    handle = nv.nvmlDeviceGetHandleByIndex(index)
                    nv.nvmlDeviceGetUUID(handle)
                except nv.NVMLError:
                    continue  # It is lost: the sensor logs that.
                yield index, handle
        except nv.NVMLError as error:
            raise Unavailable(f"NVML does not count its GPUs: {error}", "Try `nvidia-smi`.") from None

    def _board(self, index: int, handle: Any) -> GpuBoard:
        nv = self._nvml
        uuid = nv.nvmlDeviceGetUUID(handle)
        names = [(str(index), uuid)]
        minor = self._number(nv.nvmlDeviceGetMinorNumber, handle)
        if minor is not None:
            names.append((f"nvidia{minor}", uuid))
        if not self._is_mig(handle):
            return GpuBoard(uuid, names=tuple(names))
        instances = []
        for number, device in self._instances(handle):
            try:
                slices = nv.nvmlDeviceGetAttributes_v2(device).computeInstanceSliceCount
                instance = nv.nvmlDeviceGetUUID(device)
            except nv.NVMLError:
                continue
            instances.append((instance, slices))
            names.append((f"{index}:{number}", instance))
            gpu_instance = self._number(nv.nvmlDeviceGetGpuInstanceId, device)
            if minor is not None and gpu_instance is not None:
                names.append((f"nvidia{minor}/gi{gpu_instance}", instance))
        return GpuBoard(uuid, nv.nvmlDeviceGetMaxMigDeviceCount(handle), tuple(instances), tuple(names))

    def _number(self, read: Callable[[Any], int], device: Any) -> int | None:
        """Return a device's number, None where the driver does not give it."""
        try:
            return read(device)
        except self._nvml.NVMLError:
            return None

    def _instances(self, handle: Any) -> Iterator[tuple[int, Any]]:
        """Yield number and handle of each MIG instance of a GPU."""
        nv = self._nvml
        if not self._is_mig(handle):
            return
        for index in range(nv.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                yield index, nv.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except nv.NVMLError_NotFound:
                continue

    def _is_mig(self, handle: Any) -> bool:
        nv = self._nvml
        try:
            return bool(nv.nvmlDeviceGetMigMode(handle)[0] == 1)
        except nv.NVMLError:
            return False
