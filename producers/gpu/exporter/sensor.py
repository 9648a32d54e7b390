"""GPU sensor that reads the page of an exporter, by a format (`producers.gpu.exporter_formats`).

* A page is of one node: one whose rows name several is refused. Rows of MIG slices and of time-shared pods repeat their
  board: each GPU is read once, by its identity.
* A page is as old as the exporter's last sample (DCGM's default period is 30 s). Readings name the period, as seen on
  the page. So the meter waits for the next sample (`producers.gpu.meter`).

* A malformed line, or a GPU whose UUID the event log does not accept, is left out; the other GPUs are read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from statistics import median

from contracts.errors import Unavailable
from producers.common import prometheus_text
from producers.common.printable import printable
from producers.common.prometheus_text import Labels, PrometheusPage
from producers.gpu.exporter_formats import ExporterFormat, Quantity, is_usable, utilisation_of
from producers.gpu.readings import GpuReading
from producers.runtime.clock import Clock

FIRST_PERIOD_MS = 30_000
"""Period of an exporter until three samples have shown it: DCGM exporter's default."""
MAX_PERIOD_MS = 300_000
"""Longest time between two samples that is believed to be a period: a page that stands for longer is stale."""


class PagePeriod:
    """Period in which an exporter renews its page: the median time between its last changes."""

    def __init__(self) -> None:
        self._values: object = None
        self._periods_ms: deque[int] = deque(maxlen=5)
        self.changed_ms: int | None = None
        """When the values last changed, or were first read."""

    def add(self, now_ms: int, values: object) -> int:
        """Note the values of the page at a time. Return the period in ms."""
        if values != self._values:
            if self.changed_ms is not None and now_ms - self.changed_ms <= MAX_PERIOD_MS:
                self._periods_ms.append(now_ms - self.changed_ms)
            self._values, self.changed_ms = values, now_ms
        return round(median(self._periods_ms)) if len(self._periods_ms) >= 3 else FIRST_PERIOD_MS


class ExporterSensor:
    """Sensor of the GPUs on an exporter's page. `fetch` returns the page's text, or raises Unavailable."""

    def __init__(self, exporter: ExporterFormat, fetch: Callable[[], str]) -> None:
        self._exporter, self._fetch = exporter, fetch
        self.kind = exporter.name
        self._period, self._stamps = PagePeriod(), PagePeriod()
        self._refused: list[str] = []
        self.names: Mapping[str, frozenset[str]] = {}
        """Other names of each GPU on the last page, by UUID."""

    def discover(self) -> list[str]:
        """Return the identities of the GPUs on the page. Raises Unavailable where it shows none."""
        page = prometheus_text.parse_page(self._fetch())
        self.names = self._names(page)
        return self._uuids(page, [self._values(page, measure) for measure in self._exporter.measures])

    def readings(self, clock: Clock) -> list[GpuReading]:
        """Return a reading of each GPU. Raises Unavailable if the page shows none, or those of several nodes."""
        exporter, page = self._exporter, prometheus_text.parse_page(self._fetch())
        t_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
        columns = [self._values(page, measure) for measure in exporter.measures]
        uuids = self._uuids(page, columns)
        counters = columns[0] if exporter.energy else {}
        watts = columns[1:] if exporter.energy else columns
        limits = [self._values(page, limit) for limit in exporter.limit]
        utilisation = self._values(page, exporter.utilisation) if exporter.utilisation else {}
        products = self._products(page)
        period_ms = self._period.add(monotonic_ms, columns)
        self._note_stamps(page, monotonic_ms)
        self._refused = [*page.refused, *self._unusable_uuids(page)]
        self.names = self._names(page)
        return [
            GpuReading(
                gpu_uuid=uuid,
                hardware=products.get(uuid, "unknown"),
                t_ms=t_ms,
                monotonic_ms=monotonic_ms,
                counter_mj=_rounded(counters.get(uuid)),
                watts=_first(watts, uuid),
                utilisation=utilisation_of(utilisation.get(uuid)),
                limit_w=_first(limits, uuid),
                period_ms=period_ms,
            )
            for uuid in uuids
        ]

    def page_age_ms(self, now_ms: int) -> int | None:
        """Return for how long the page's energy and power, or their timestamps, have stood; None before it was read.

        The longer of the two: an exporter that hangs may repeat old values under new timestamps.
        """
        changes_ms = [p.changed_ms for p in (self._period, self._stamps) if p.changed_ms is not None]
        return now_ms - min(changes_ms) if changes_ms else None

    def _note_stamps(self, page: PrometheusPage, now_ms: int) -> None:
        """Note the timestamps of the page's energy and power. Most exporters give none."""
        names = (measure.sample for measure in self._exporter.measures)
        if stamps := {name: page.newest_s[name] for name in names if name in page.newest_s}:
            self._stamps.add(now_ms, stamps)
        else:
            self._stamps = PagePeriod()

    def drain_refused(self) -> list[str]:
        """Return a sentence on each malformed line, and each identity that cannot be used, of the last page."""
        refused, self._refused = self._refused, []
        return refused

    def _rows(self, page: PrometheusPage) -> list[tuple[Labels, float]]:
        """Return the rows that measure GPUs."""
        return [row for measure in self._exporter.measures for row in page.get(measure.sample)]

    def _unusable_uuids(self, page: PrometheusPage) -> list[str]:
        uuids = {self._exporter.identity_of(labels) for labels, _ in self._rows(page)}
        return [f"the identity {printable(uuid)!r} cannot be used" for uuid in sorted(uuids) if not is_usable(uuid)]

    def _uuids(self, page: PrometheusPage, columns: Iterable[Mapping[str, object]]) -> list[str]:
        """Return the identities in columns. Raises Unavailable where there are none, or the rows name several nodes."""
        exporter, rows = self._exporter, self._rows(page)
        hosts = {host for labels, _ in rows if (host := exporter.host_of(labels))}
        if len(hosts) > 1:
            raise Unavailable(
                f"The page shows GPUs of several nodes: {', '.join(printable(host) for host in sorted(hosts)[:5])}",
                "Read each node's own page: its GPUs are bound to that node's workloads.",
            )
        uuids = sorted({uuid for column in columns for uuid in column})
        if not uuids:
            names = ", ".join(measure.sample for measure in exporter.measures)
            if rows:
                labels = " or ".join(exporter.identity)
                raise Unavailable(
                    f"The page's rows of {exporter.name} do not tell which GPU they are of",
                    f"They need the label {labels}; they have {', '.join(sorted(rows[0][0])) or 'none'}.",
                )
            raise Unavailable(f"The page shows no GPU's energy as {exporter.name} does", f"It needs one of {names}.")
        return uuids

    def _values(self, page: PrometheusPage, quantity: Quantity) -> dict[str, Fraction | None]:
        """Return a sample's values by GPU, in mJ, W or as a ratio.

        Of rows that repeat a board, the first that is not blank counts.
        """
        values: dict[str, Fraction | None] = {}
        for labels, value in page.get(quantity.sample):
            uuid = self._uuid(labels)
            if uuid and values.get(uuid) is None:
                values[uuid] = quantity.value_of(value)
        return values

    def _products(self, page: PrometheusPage) -> dict[str, str]:
        """Return product names by GPU."""
        sample = self._exporter.hardware[0]
        rows = page.get(sample) if sample else [row for rows in page.samples.values() for row in rows]
        named = ((self._uuid(labels), self._exporter.product_of(labels)) for labels, _ in rows)
        return {uuid: name for uuid, name in named if uuid and name}

    def _names(self, page: PrometheusPage) -> dict[str, frozenset[str]]:
        """Return the other names of each GPU: `0`, `nvidia0`."""
        names: dict[str, set[str]] = {}
        for labels, _ in self._rows(page):
            if uuid := self._uuid(labels):
                names.setdefault(uuid, set()).update(
                    labels[label] for label in self._exporter.names if labels.get(label)
                )
        return {uuid: frozenset(gpu_names) for uuid, gpu_names in names.items()}

    def _uuid(self, labels: Labels) -> str:
        """Return a GPU's identity, or "" if the row has none that can be used."""
        uuid = self._exporter.identity_of(labels)
        return uuid if is_usable(uuid) else ""


def _rounded(value: Fraction | None) -> int | None:
    return None if value is None else round(value)


def _first(columns: Iterable[Mapping[str, Fraction | None]], uuid: str) -> float | None:
    """Return the first value that a GPU has in the columns."""
    return next((float(value) for column in columns if (value := column.get(uuid)) is not None), None)
