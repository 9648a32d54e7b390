"""GPU sensor that reads the page of an exporter: NVIDIA's DCGM exporter, or nvidia_gpu_exporter.

* A page is of one node. Rows of MIG slices and of time-shared pods repeat their board: each GPU is read once, by its
  UUID.
* DCGM answers what it does not know with blanks of about 9.22e18 (dcgm_structs.h). Blanks and NaN are None.

* `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION` counts millijoules since the driver was loaded; nvidia_gpu_exporter has only
  watts.
* A page is as old as the exporter's last sample (DCGM's default period is 30 s). Readings name the period, as seen on
  the page. So the meter waits for the next sample (`producers.gpu.meter`).

* A malformed line, or a GPU whose UUID the event log does not accept, is left out; the other GPUs are read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from contracts import checks
from contracts.errors import Unavailable
from producers.common import prometheus_text
from producers.common.printable import printable
from producers.gpu.readings import GpuReading
from producers.runtime.clock import Clock

BLANK = 9.2e18
FIRST_PERIOD_MS = 30_000
"""Period of an exporter until three samples have shown it: DCGM exporter's default."""
MAX_PERIOD_MS = 300_000
"""Longest time between two samples that is believed to be a period: a page that stands for longer is stale."""


@dataclass(frozen=True)
class ExporterFormat:
    """Names of an exporter's samples and labels. `utilisation_scale` times its utilisation is a ratio."""

    name: str
    uuid: str
    hardware: tuple[str, str]
    """(sample, label) that names the product; any sample if ""."""
    counter_mj: str
    watts: tuple[str, ...]
    utilisation: str
    utilisation_scale: float


DCGM = ExporterFormat(
    name="dcgm",
    uuid="UUID",
    hardware=("", "modelName"),
    counter_mj="DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    watts=("DCGM_FI_DEV_POWER_USAGE_INSTANT", "DCGM_FI_DEV_POWER_USAGE"),
    utilisation="DCGM_FI_DEV_GPU_UTIL",
    utilisation_scale=0.01,
)
NVIDIA_SMI = ExporterFormat(
    name="nvidia_gpu_exporter",
    uuid="uuid",
    hardware=("nvidia_smi_gpu_info", "name"),
    counter_mj="",
    watts=("nvidia_smi_power_draw_instant_watts", "nvidia_smi_power_draw_watts"),
    utilisation="nvidia_smi_utilization_gpu_ratio",
    utilisation_scale=1.0,
)
KNOWN: Mapping[str, ExporterFormat] = {e.name: e for e in (DCGM, NVIDIA_SMI)}


class PagePeriod:
    """Period in which an exporter renews its page: the median time between its last changes."""

    def __init__(self) -> None:
        self._values: object = None
        self._changed_ms: int | None = None
        self._periods_ms: deque[int] = deque(maxlen=5)

    def add(self, now_ms: int, values: object) -> int:
        """Note the values of the page at a time. Return the period in ms."""
        if values != self._values:
            if self._changed_ms is not None and now_ms - self._changed_ms <= MAX_PERIOD_MS:
                self._periods_ms.append(now_ms - self._changed_ms)
            self._values, self._changed_ms = values, now_ms
        return round(median(self._periods_ms)) if len(self._periods_ms) >= 3 else FIRST_PERIOD_MS


class ExporterSensor:
    """Sensor of the GPUs on an exporter's page. `fetch` returns the page's text, or raises Unavailable."""

    def __init__(self, exporter: ExporterFormat, fetch: Callable[[], str]) -> None:
        self._exporter, self._fetch = exporter, fetch
        self.kind = exporter.name
        self._period = PagePeriod()
        self._refused: list[str] = []

    def discover(self) -> list[str]:
        """Return the UUIDs of the GPUs on the page. Raises Unavailable where it shows none."""
        page = prometheus_text.parse_page(self._fetch())
        return self._uuids(self._values(page, name) for name in (self._exporter.counter_mj, *self._exporter.watts))

    def readings(self, clock: Clock) -> list[GpuReading]:
        """Return a reading of each GPU. Raises Unavailable if the page shows none."""
        exporter, page = self._exporter, prometheus_text.parse_page(self._fetch())
        t_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        counters = self._values(page, exporter.counter_mj)
        watts = [self._values(page, name) for name in exporter.watts]
        utilisation = self._values(page, exporter.utilisation)
        uuids = self._uuids((counters, *watts))
        products = self._products(page)
        period_ms = self._period.add(monotonic_ms, (counters, *watts))
        self._refused = [*page.refused, *self._unusable_uuids(page)]
        return [
            GpuReading(
                gpu_uuid=uuid,
                hardware=products.get(uuid, "unknown"),
                t_ms=t_ms,
                monotonic_ms=monotonic_ms,
                counter_mj=_rounded(counters.get(uuid)),
                watts=next((v for values in watts if (v := values.get(uuid)) is not None), None),
                utilisation=_ratio(utilisation.get(uuid), exporter.utilisation_scale),
                period_ms=period_ms,
            )
            for uuid in uuids
        ]

    def drain_refused(self) -> list[str]:
        """Return a sentence on each malformed line, and each UUID that cannot be used, of the last page."""
        refused, self._refused = self._refused, []
        return refused

    def _unusable_uuids(self, page: prometheus_text.PrometheusPage) -> list[str]:
        names = (self._exporter.counter_mj, *self._exporter.watts)
        uuids = {self._full_uuid(labels) for name in names for labels, _ in page.get(name)}
        return [f"the UUID {printable(uuid)!r} cannot be used" for uuid in sorted(uuids) if not _is_usable(uuid)]

    def _uuids(self, columns: Iterable[Mapping[str, object]]) -> list[str]:
        uuids = sorted({uuid for column in columns for uuid in column})
        if not uuids:
            exporter = self._exporter
            raise Unavailable(
                f"The page shows no GPU's energy as {exporter.name} does",
                f"It needs {exporter.counter_mj or exporter.watts[-1]}.",
            )
        return uuids

    def _values(self, page: prometheus_text.PrometheusPage, name: str) -> dict[str, float | None]:
        """Return the values of a sample by GPU; of rows that repeat a board, the first that is not blank."""
        values: dict[str, float | None] = {}
        for labels, value in page.get(name):
            uuid = self._uuid(labels)
            if uuid and values.get(uuid) is None:
                values[uuid] = value if math.isfinite(value) and 0 <= value < BLANK else None
        return values

    def _products(self, page: prometheus_text.PrometheusPage) -> dict[str, str]:
        """Return product names by GPU, with runs of blanks made one."""
        sample, label = self._exporter.hardware
        rows = page.get(sample) if sample else [row for rows in page.samples.values() for row in rows]
        named = ((self._uuid(labels), labels.get(label, "")) for labels, _ in rows)
        return {uuid: printable(" ".join(name.split())) for uuid, name in named if uuid and name}

    def _uuid(self, labels: prometheus_text.Labels) -> str:
        """Return a GPU's UUID, or "" if the row has none that can be used."""
        uuid = self._full_uuid(labels)
        return uuid if _is_usable(uuid) else ""

    def _full_uuid(self, labels: prometheus_text.Labels) -> str:
        """Return a row's UUID as NVML gives it: nvidia_gpu_exporter leaves the prefix out."""
        uuid = labels.get(self._exporter.uuid, "")
        return uuid if not uuid or uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _is_usable(uuid: str) -> bool:
    """Return True if the event log accepts a UUID."""
    return uuid.isprintable() and len(uuid) <= checks.MAX_TEXT


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _ratio(value: float | None, scale: float) -> float | None:
    return None if value is None else min(value * scale, 1.0)
