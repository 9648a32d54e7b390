"""Formats of exporters' samples: which names and labels say what, on a page or in Prometheus. A format is data.

DCGM answers what it does not know with blanks of about 9.22e18 (dcgm_structs.h). Blanks and NaN are None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from contracts import checks
from producers.common.printable import printable

BLANK = 9.2e18

ENERGY_UNITS: Mapping[str, Fraction] = {
    "uJ": Fraction(1, 1000), "mJ": Fraction(1), "J": Fraction(1000), "kJ": Fraction(10**6), "Wh": Fraction(3_600_000),
    "kWh": Fraction(3_600_000_000),
}  # fmt: skip
"""Millijoules of each unit of energy."""
POWER_UNITS: Mapping[str, Fraction] = {"mW": Fraction(1, 1000), "W": Fraction(1), "kW": Fraction(1000)}
"""Watts of each unit of power."""
UTILISATION_UNITS: Mapping[str, Fraction] = {"percent": Fraction(1, 100), "ratio": Fraction(1)}
"""The ratio of each unit of utilisation."""
UNITS: Mapping[str, Fraction] = {**ENERGY_UNITS, **POWER_UNITS, **UTILISATION_UNITS}


@dataclass(frozen=True)
class Quantity:
    """A sample of the page, and the unit of its values."""

    sample: str
    unit: str

    def value_of(self, value: float) -> Fraction | None:
        """Return a sample's value in mJ, W or as a ratio; None for a blank."""
        return Fraction(value) * UNITS[self.unit] if math.isfinite(value) and 0 <= value < BLANK else None


@dataclass(frozen=True)
class ExporterFormat:
    """Names of an exporter's samples and labels. Of several, the first that a GPU has counts.

    `identity` are labels that tell GPUs apart, and `prefix` is put before an identity that lacks it. `hosts` are labels
    that name the node.
    """

    name: str
    identity: tuple[str, ...]
    energy: Quantity | None = None
    power: tuple[Quantity, ...] = ()
    hardware: tuple[str, ...] = ("",)
    """Sample that names the product, any if "", and the labels that do. The first that is not empty counts."""
    utilisation: Quantity | None = None
    limit: tuple[Quantity, ...] = ()
    prefix: str = ""
    hosts: tuple[str, ...] = ("Hostname", "hostname")
    names: tuple[str, ...] = ()
    """Labels with other names of a GPU, by which device plugins may call it."""

    @property
    def measures(self) -> tuple[Quantity, ...]:
        """Samples that show a GPU's energy or power."""
        return (self.energy, *self.power) if self.energy else self.power

    def identity_of(self, labels: Mapping[str, str]) -> str:
        """Return a row's identity: NVIDIA's as NVML gives it, with the prefix that nvidia_gpu_exporter leaves out."""
        uuid = next((labels[label] for label in self.identity if labels.get(label)), "")
        is_whole = not uuid or uuid.startswith((self.prefix, "MIG-"))
        return uuid if is_whole else self.prefix + uuid

    def product_of(self, labels: Mapping[str, str]) -> str:
        """Return the product that a row names, with runs of blanks made one, or ""."""
        _, *names = self.hardware
        products = (" ".join(labels.get(name, "").split()) for name in names)
        return printable(next(filter(None, products), ""))

    def host_of(self, labels: Mapping[str, str]) -> str:
        """Return the node that a row names, or ""."""
        return next((labels[label] for label in self.hosts if labels.get(label)), "")


DCGM = ExporterFormat(
    name="dcgm",
    identity=("UUID", "uuid"),
    energy=Quantity("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "mJ"),
    power=(Quantity("DCGM_FI_DEV_POWER_USAGE_INSTANT", "W"), Quantity("DCGM_FI_DEV_POWER_USAGE", "W")),
    hardware=("", "modelName"),
    utilisation=Quantity("DCGM_FI_DEV_GPU_UTIL", "percent"),
    limit=(Quantity("DCGM_FI_DEV_POWER_MGMT_LIMIT", "W"),),
    prefix="GPU-",
    names=("gpu", "device"),
)
"""NVIDIA's DCGM exporter. Its first releases spelled the label `uuid`."""
NVIDIA_SMI = ExporterFormat(
    name="nvidia_gpu_exporter",
    identity=("uuid",),
    energy=Quantity("nvidia_smi_energy_joules_total", "J"),
    power=(Quantity("nvidia_smi_power_draw_instant_watts", "W"), Quantity("nvidia_smi_power_draw_watts", "W")),
    hardware=("nvidia_smi_gpu_info", "name"),
    utilisation=Quantity("nvidia_smi_utilization_gpu_ratio", "ratio"),
    limit=(Quantity("nvidia_smi_power_limit_watts", "W"),),
    prefix="GPU-",
)
"""utkuozdemir's nvidia_gpu_exporter. Only its NVML backend has the counter."""
AMD = ExporterFormat(
    name="amd",
    identity=("serial_number", "gpu_uuid"),
    energy=Quantity("gpu_energy_consumed", "uJ"),
    power=(Quantity("gpu_package_power", "W"), Quantity("gpu_average_package_power", "W")),
    hardware=("", "card_model", "card_series"),
    utilisation=Quantity("gpu_gfx_activity", "percent"),
)
"""AMD's device-metrics-exporter (ROCm): https://github.com/ROCm/device-metrics-exporter."""
TRITON = ExporterFormat(
    name="triton",
    identity=("gpu_uuid",),
    energy=Quantity("nv_energy_consumption", "J"),
    power=(Quantity("nv_gpu_power_usage", "W"),),
    utilisation=Quantity("nv_gpu_utilization", "ratio"),
    limit=(Quantity("nv_gpu_power_limit", "W"),),
    prefix="GPU-",
)
"""Triton Inference Server's own GPU metrics. Its counter starts with the server."""
ALL_SMI = ExporterFormat(
    name="all_smi",
    identity=("gpu_uuid", "uuid"),
    energy=Quantity("all_smi_energy_consumed_joules_total", "J"),
    power=(Quantity("all_smi_gpu_power_consumption_watts", "W"),),
    hardware=("all_smi_gpu_power_consumption_watts", "gpu"),
    utilisation=Quantity("all_smi_gpu_utilization", "percent"),
    limit=(Quantity("all_smi_gpu_power_limit_current_watts", "W"),),
    hosts=("host",),
)
"""Lablup's all-smi: Intel Gaudi and Xe, and other makers: https://github.com/lablup/all-smi/blob/main/API.md.

Its counter is the energy of the watts that it sampled. The rows of CPUs and chassis have no identity. Releases before
the counter spelled the label `uuid`.
"""
KEPLER = ExporterFormat(
    name="kepler",
    identity=("gpu_uuid",),
    energy=Quantity("kepler_node_gpu_joules_total", "J"),
    power=(Quantity("kepler_node_gpu_watts", "W"),),
    hardware=("kepler_node_gpu_info", "gpu_name"),
    hosts=("node_name",),
)
"""Kepler's metrics of a node. Its shares of processes, containers and pods are not read: they are estimates."""
PRESETS: Mapping[str, ExporterFormat] = {f.name: f for f in (DCGM, NVIDIA_SMI, AMD, TRITON, ALL_SMI, KEPLER)}


def is_usable(identity: str) -> bool:
    """Return True if the event log accepts an identity."""
    return identity.isprintable() and len(identity) <= checks.MAX_TEXT


def utilisation_of(value: Fraction | None) -> float | None:
    """Return a utilisation, or None for one above the whole, which is no utilisation."""
    return None if value is None or value > 1 else float(value)
