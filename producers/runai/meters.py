"""Run:ai's metrics, and the meter of each.

A metric is a gauge over time: its value x the minutes for which it had it. `to_unit` converts a value to the unit,
so that

    quantity = value x to_unit x minutes

A gigabyte is 10^9 bytes. A pod's meters begin with `pod_`, so if both resources are read, no meter counts anything
twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple

from contracts.errors import BadInput

Resource = Literal["workload", "pod"]

MAX_CALL_METRICS = 9
"""Metrics of one call. Run:ai refuses more than some ten, and does not document the limit."""

_ONE, _PERCENT = Decimal(1), Decimal("0.01")
_GIGA = Decimal("0.000000001")
_PER_SECOND = 60 * _GIGA
"""Bytes per second over a minute, in gigabytes."""


class RunAiMeter(NamedTuple):
    """A meter: its name and unit, and the factor to the unit. `at_most` is the greatest plausible value."""

    meter: str
    unit: str
    to_unit: Decimal = _ONE
    at_most: Decimal | None = None
    activity: bool = False
    """True for a share of time that may be out of 1 or of 100: Run:ai does not say which."""


def _gigabyte(name: str) -> RunAiMeter:
    return RunAiMeter(f"{name}_gigabyte_minutes", "GB.min", _GIGA)


def _usage(name: str) -> RunAiMeter:
    return RunAiMeter(f"{name}_usage_minutes", "min", _PERCENT)


def _ratio(name: str) -> RunAiMeter:
    return RunAiMeter(f"{name}_ratio_minutes", "min", _ONE, _ONE, activity=True)


def _bytes(name: str) -> RunAiMeter:
    return RunAiMeter(f"{name}_gigabytes", "GB", _PER_SECOND)


WORKLOAD: Mapping[str, RunAiMeter] = MappingProxyType({
    "GPU_ALLOCATION": RunAiMeter("gpu_allocation_minutes", "min"),
    "GPU_UTILIZATION": _usage("gpu"),
    "GPU_MEMORY_USAGE_BYTES": _gigabyte("gpu_memory_usage"),
    "GPU_MEMORY_REQUEST_BYTES": _gigabyte("gpu_memory_request"),
    "CPU_USAGE_CORES": RunAiMeter("cpu_usage_core_minutes", "core.min"),
    "CPU_REQUEST_CORES": RunAiMeter("cpu_request_core_minutes", "core.min"),
    "CPU_LIMIT_CORES": RunAiMeter("cpu_limit_core_minutes", "core.min"),
    "CPU_MEMORY_USAGE_BYTES": _gigabyte("cpu_memory_usage"),
    "CPU_MEMORY_REQUEST_BYTES": _gigabyte("cpu_memory_request"),
    "CPU_MEMORY_LIMIT_BYTES": _gigabyte("cpu_memory_limit"),
    "POD_COUNT": RunAiMeter("workload_pod_minutes", "min"),
    "RUNNING_POD_COUNT": RunAiMeter("workload_running_pod_minutes", "min"),
})  # fmt: skip

POD: Mapping[str, RunAiMeter] = MappingProxyType({
    "GPU_UTILIZATION": _usage("pod_gpu"),
    "GPU_UTILIZATION_PER_GPU": _usage("pod_gpu_device"),
    "GPU_MEMORY_USAGE_BYTES": _gigabyte("pod_gpu_memory_usage"),
    "GPU_MEMORY_USAGE_BYTES_PER_GPU": _gigabyte("pod_gpu_device_memory_usage"),
    "CPU_USAGE_CORES": RunAiMeter("pod_cpu_usage_core_minutes", "core.min"),
    "CPU_MEMORY_USAGE_BYTES": _gigabyte("pod_cpu_memory_usage"),
    "GPU_SWAP_MEMORY_BYTES_PER_GPU": _gigabyte("pod_gpu_device_swap_memory"),
    "GPU_GRAPHICS_ENGINE_ACTIVITY_PER_GPU": _ratio("pod_gpu_device_graphics_engine_activity"),
    "GPU_SM_ACTIVITY_PER_GPU": _ratio("pod_gpu_device_sm_activity"),
    "GPU_SM_OCCUPANCY_PER_GPU": _ratio("pod_gpu_device_sm_occupancy"),
    "GPU_TENSOR_ACTIVITY_PER_GPU": _ratio("pod_gpu_device_tensor_activity"),
    "GPU_FP64_ENGINE_ACTIVITY_PER_GPU": _ratio("pod_gpu_device_fp64_engine_activity"),
    "GPU_FP32_ENGINE_ACTIVITY_PER_GPU": _ratio("pod_gpu_device_fp32_engine_activity"),
    "GPU_FP16_ENGINE_ACTIVITY_PER_GPU": _ratio("pod_gpu_device_fp16_engine_activity"),
    "GPU_MEMORY_BANDWIDTH_UTILIZATION_PER_GPU": _ratio("pod_gpu_device_memory_bandwidth_utilization"),
    "GPU_NVLINK_TRANSMITTED_BANDWIDTH_PER_GPU": _bytes("pod_gpu_device_nvlink_transmitted"),
    "GPU_NVLINK_RECEIVED_BANDWIDTH_PER_GPU": _bytes("pod_gpu_device_nvlink_received"),
    "GPU_PCIE_TRANSMITTED_BANDWIDTH_PER_GPU": _bytes("pod_gpu_device_pcie_transmitted"),
    "GPU_PCIE_RECEIVED_BANDWIDTH_PER_GPU": _bytes("pod_gpu_device_pcie_received"),
})  # fmt: skip

BASIC_POD = (
    "GPU_UTILIZATION", "GPU_UTILIZATION_PER_GPU", "GPU_MEMORY_USAGE_BYTES", "GPU_MEMORY_USAGE_BYTES_PER_GPU",
    "CPU_USAGE_CORES", "CPU_MEMORY_USAGE_BYTES",
)  # fmt: skip
"""Metrics of a pod that Run:ai measures without its GPU profiling."""

RUNNING = "RUNNING_POD_COUNT"
WORKLOAD_MINUTES = RunAiMeter("workload_minutes", "min")
"""Minutes in which a workload had a running pod, made from `RUNNING_POD_COUNT` with 1 or 0 for each sample."""

METERS: Mapping[Resource, Mapping[str, RunAiMeter]] = MappingProxyType({"workload": WORKLOAD, "pod": POD})


def split_into_calls(metrics: Sequence[str]) -> Iterable[tuple[str, ...]]:
    """Split metrics into those of single calls."""
    return (tuple(metrics[n : n + MAX_CALL_METRICS]) for n in range(0, len(metrics), MAX_CALL_METRICS))


def check_metrics(resource: Resource, metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the metrics, each once. Raises BadInput for one without a meter."""
    for metric in (chosen := tuple(dict.fromkeys(metrics))):
        if metric not in METERS[resource]:
            raise BadInput(f"{resource}_metrics", metric, f"use some of {', '.join(METERS[resource])}")
    return chosen
