"""GPUs through an exporter's page, where one is there already: DCGM exporter, nvidia_gpu_exporter. They give readings;
the agent makes intervals of them, as of NVML's.

* A page is of one node. Rows of MIG slices and of time-shared pods repeat their board: a GPU is read once, by its UUID.
* DCGM answers what it does not know with blanks of about 9.22e18 (dcgm_structs.h); those, and what is no number, are
  None.
* `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION` counts millijoules since the driver was loaded; nvidia_gpu_exporter has only
  watts.
* A page is as old as the exporter's last look (DCGM's default is 30 s). A counter that stands where it stood was not
  looked at again, for even an idle GPU draws some watts: no reading is made of it, so that an interval is as long as
  the exporter's own period. After STALE_MS the counter is believed to stand still.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from contracts.errors import Unavailable
from producers.common import prometheus_text
from producers.gpu.intervals import GpuReading
from producers.runtime.clock import Clock

BLANK = 9.2e18
STALE_MS = 60_000


@dataclass(frozen=True)
class ExporterFormat:
    """What an exporter calls things. `utilisation_scale` makes a ratio of its utilisation."""

    name: str
    uuid: str
    hardware: tuple[str, str]
    """(sample, label) that names the product."""
    counter_mj: str
    watts: tuple[str, ...]
    utilisation: str
    utilisation_scale: float


DCGM = ExporterFormat(
    "dcgm", "UUID", ("", "modelName"), "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    ("DCGM_FI_DEV_POWER_USAGE_INSTANT", "DCGM_FI_DEV_POWER_USAGE"), "DCGM_FI_DEV_GPU_UTIL", 0.01,
)  # fmt: skip
NVIDIA_SMI = ExporterFormat(
    "nvidia_gpu_exporter", "uuid", ("nvidia_smi_gpu_info", "name"), "",
    ("nvidia_smi_power_draw_instant_watts", "nvidia_smi_power_draw_watts"), "nvidia_smi_utilization_gpu_ratio", 1.0,
)  # fmt: skip
KNOWN: Mapping[str, ExporterFormat] = {e.name: e for e in (DCGM, NVIDIA_SMI)}


class ExporterSensor:
    """A node's GPUs, as its exporter shows them. `fetch` gives the page, or raises Unavailable."""

    def __init__(self, exporter: ExporterFormat, fetch: Callable[[], str]) -> None:
        self._exporter, self._fetch = exporter, fetch
        self._given: dict[str, tuple[int, int]] = {}
        """By GPU, the counter that was last given, and when."""

    def readings(self, clock: Clock) -> list[GpuReading]:
        """One reading of each GPU on the page. Raises Unavailable where it shows none."""
        e, found = self._exporter, prometheus_text.parse_page(self._fetch())
        t_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        counters = self._values(found, e.counter_mj)
        watts = [self._values(found, name) for name in e.watts]
        busy = self._values(found, e.utilisation)
        uuids = sorted({uuid for values in (counters, *watts) for uuid in values})
        if not uuids:
            raise Unavailable(
                f"The page shows no GPU's energy as {e.name} does", f"It needs {e.counter_mj or e.watts[-1]}."
            )
        products = self._products(found)
        readings = [
            GpuReading(
                uuid, products.get(uuid, "unknown"), t_ms, monotonic_ms,
                _whole(counters.get(uuid)), next((v for w in watts if (v := w.get(uuid)) is not None), None),
                _ratio(busy.get(uuid), e.utilisation_scale),
            )
            for uuid in uuids
        ]  # fmt: skip
        return [reading for reading in readings if self._is_new(reading)]

    def _is_new(self, reading: GpuReading) -> bool:
        if reading.counter_mj is None:
            return True
        counter_mj, given_ms = self._given.get(reading.gpu_uuid, (-1, 0))
        if reading.counter_mj == counter_mj and reading.monotonic_ms - given_ms < STALE_MS:
            return False
        self._given[reading.gpu_uuid] = reading.counter_mj, reading.monotonic_ms
        return True

    def _values(self, found: prometheus_text.PrometheusPage, name: str) -> dict[str, float | None]:
        """By GPU; of rows that repeat a board, the first that says anything."""
        values: dict[str, float | None] = {}
        for labels, value in found.get(name, ()):
            uuid = self._uuid(labels)
            known = value if math.isfinite(value) and 0 <= value < BLANK else None
            if uuid and values.get(uuid) is None:
                values[uuid] = known
        return values

    def _products(self, found: prometheus_text.PrometheusPage) -> dict[str, str]:
        sample, label = self._exporter.hardware
        samples = [s for name, some in found.items() if not sample or name == sample for s in some]
        named = ((self._uuid(labels), labels.get(label, "")) for labels, _ in samples)
        return {uuid: " ".join(name.split()) for uuid, name in named if uuid and name}

    def _uuid(self, labels: prometheus_text.Labels) -> str:
        """As NVML has it: nvidia_gpu_exporter leaves the prefix out."""
        uuid = labels.get(self._exporter.uuid, "")
        return uuid if not uuid or uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _ratio(value: float | None, scale: float) -> float | None:
    return None if value is None else min(value * scale, 1.0)
