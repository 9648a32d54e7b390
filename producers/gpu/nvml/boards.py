"""Boards of this node with their MIG instances, and the processes that compute on them, through NVML."""

from __future__ import annotations

from collections.abc import Iterator
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
        return tuple(self._board(handle) for handle in self._handles())

    def running(self) -> dict[str, tuple[int, ...]]:
        """Return process ids by the UUID of the GPU, or of the MIG instance, that they compute on."""
        nv, pids_by_device = self._nvml, dict[str, tuple[int, ...]]()
        for handle in self._handles():
            for device in (handle, *self._instances(handle)):
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

    def _handles(self) -> Iterator[Any]:
        nv = self._nvml
        try:
            for index in range(nv.nvmlDeviceGetCount()):
                try:
                    handle = nv.nvmlDeviceGetHandleByIndex(index)
                    nv.nvmlDeviceGetUUID(handle)
                except nv.NVMLError:
                    continue  # It is lost: the sensor logs that.
                yield handle
        except nv.NVMLError as error:
            raise Unavailable(f"NVML does not count its GPUs: {error}", "Try `nvidia-smi`.") from None

    def _board(self, handle: Any) -> GpuBoard:
        nv = self._nvml
        uuid = nv.nvmlDeviceGetUUID(handle)
        if not self._is_mig(handle):
            return GpuBoard(uuid)
        instances = []
        for device in self._instances(handle):
            try:
                slices = nv.nvmlDeviceGetAttributes_v2(device).computeInstanceSliceCount
                instances.append((nv.nvmlDeviceGetUUID(device), slices))
            except nv.NVMLError:
                continue
        return GpuBoard(uuid, nv.nvmlDeviceGetMaxMigDeviceCount(handle), tuple(instances))

    def _instances(self, handle: Any) -> Iterator[Any]:
        nv = self._nvml
        if not self._is_mig(handle):
            return
        for index in range(nv.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                yield nv.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except nv.NVMLError_NotFound:
                continue

    def _is_mig(self, handle: Any) -> bool:
        nv = self._nvml
        try:
            return bool(nv.nvmlDeviceGetMigMode(handle)[0] == 1)
        except nv.NVMLError:
            return False
