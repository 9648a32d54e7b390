"""Feeds of `wattlog produce nvml`: values and exceptions of the driver's library, for one GPU of two.

The library is a stand-in of a few functions. `test_sensor` runs the real pynvml over a compiled one.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from producers.gpu.nvml import sensor
from producers.gpu.nvml.plugin import NvmlNode
from tests.producers.conformance import OBJECTS, Feed, Outcome, Piece, joules, refusals, sample
from tests.support.clocks import FakeClock


class _NVMLError(Exception):
    pass


def _library(clock: FakeClock, piece: Piece) -> SimpleNamespace:
    errors = ("NotSupported", "FunctionNotFound", "InvalidArgument", "GpuIsLost")
    classes: dict[str, Any] = {f"NVMLError_{name}": type(name, (_NVMLError,), {}) for name in errors}

    def counter(index: int) -> Any:
        return piece.read() if index == 0 and clock.now_ms == 3_000 else 300 * clock.now_ms

    def unsupported(*_: object) -> Any:
        raise classes["NVMLError_NotSupported"]

    return SimpleNamespace(
        **classes, NVMLError=_NVMLError, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index, nvmlDeviceGetUUID=lambda index: f"GPU-{index}",
        nvmlDeviceGetName=lambda index: "H100", nvmlDeviceGetTotalEnergyConsumption=counter,
        nvmlDeviceGetMigMode=unsupported, nvmlDeviceGetPowerUsage=lambda index: 300_000,
        nvmlDeviceGetPowerManagementLimit=lambda index: 700_000,
        nvmlDeviceGetFieldValues=unsupported, nvmlDeviceGetUtilizationRates=unsupported,
    )  # fmt: skip


def _run(piece: Piece, folder: Path) -> Outcome:
    clock = FakeClock(6_000)
    with patch.object(sensor, "load_nvml", lambda: _library(clock, piece)):
        log, metrics = sample(NvmlNode(), folder, clock)
    return Outcome(joules(log), 2 * 6 * 300, refusals(metrics))


FEEDS = {"nvml": [Feed("counter", _run, "kernel", OBJECTS)]}
