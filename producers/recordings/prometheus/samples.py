"""Series of a chunk of time, merged to one row for each GPU and moment. Pure.

One GPU has many series: each pod that used it, each MIG slice, each replica of a Prometheus pair and each restarted
exporter makes another. They are one device, so they are merged by its identity:

* The greatest counter counts: of copies of one counter it is the one that was read last.

* Watts are those of the series with that counter, else of the first by its labels.

* Who holds the GPU is known where the series with that counter agree. A GPU that several pods share has no holder.

A moment's row depends on the samples of that moment only, so chunks of any length give the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import msgspec

from producers.common.printable import printable
from producers.gpu.exporter_formats import ExporterFormat, Quantity, is_usable, utilisation_of
from producers.recordings.prometheus.range_query import RangeSeries, decode_series
from producers.runtime.refusals import describe

INSTANCE_LABELS = ("node", "kubernetes_node", "instance")
"""Labels that Prometheus adds. They name the node where the exporter's own labels do not."""
MAX_NOTED = 20
Labels = Mapping[str, str]


class GpuRow(NamedTuple):
    """One GPU at one moment, `point` steps after the start. Texts are "" and values None if unknown.

    `instance` names the node where `node` does not.
    """

    point: int
    gpu: str
    node: str
    instance: str
    workload: str
    owner: str
    counter_mj: int | None
    watts: float | None
    utilisation: float | None
    limit_w: float | None


class ChunkSamples(msgspec.Struct):
    """Rows of a chunk in order of point and GPU, and what was unusual in it.

    `hardware` is the first product name of each GPU, and the point at which it was seen. `merged` are the GPUs with
    several series at one moment, `shared` those with several holders. `unidentified` are the labels of rows that do not
    tell which GPU they are of. `refused` are pairs of a series and the reason why it cannot be read.
    """

    rows: list[GpuRow] = []
    hardware: dict[str, tuple[int, str]] = {}
    merged: list[str] = []
    shared: list[str] = []
    unidentified: list[str] = []
    refused: list[tuple[str, str]] = []


class LabelNames(NamedTuple):
    """Labels that name the node, the workload and its owner; "" for none."""

    node: str = ""
    workload: str = ""
    owner: str = ""


class _Series(NamedTuple):
    gpu: str
    labels: Labels
    signature: tuple[tuple[str, str], ...]
    values: list[tuple[int, float]]


class _Cell:
    """Values of a GPU at a moment, while its series are merged."""

    __slots__ = ("counter", "holder", "labels", "limit", "shared", "signature", "utilisation", "watts", "watts_at")

    def __init__(self) -> None:
        self.labels: Labels | None = None
        self.signature: tuple[tuple[str, str], ...] = ()
        self.holder: tuple[str, str] | None = None
        self.shared = False
        self.counter: int | None = None
        self.watts: float | None = None
        self.watts_at: tuple[int, bool, tuple[tuple[str, str], ...]] | None = None
        self.utilisation: float | None = None
        self.limit: float | None = None

    def add_holder(self, holder: tuple[str, str]) -> None:
        """Note who holds the GPU according to another series."""
        self.shared = self.shared or self.holder not in (None, holder)
        self.holder = holder


class ChunkMerger:
    """Merges the series of one chunk. `start_s` and `step_s` say which moment is point 0, and how far apart points are.

    Series of a quantity are added by `add`; `samples` returns the result.
    """

    def __init__(self, exporter: ExporterFormat, names: LabelNames, start_s: int, step_s: int) -> None:
        self._exporter, self._names, self._start_s, self._step_s = exporter, names, start_s, step_s
        self._series: dict[str, list[_Series]] = {}
        self._cells: dict[str, dict[int, _Cell]] = {}
        self._merged: set[str] = set()
        self._shared: set[str] = set()
        self._unidentified: set[str] = set()
        self._refused: list[tuple[str, str]] = []

    def add(self, sample: str, answer: Sequence[msgspec.Raw]) -> None:
        """Add the series of a sample."""
        series = self._series.setdefault(sample, [])
        for raw in answer:
            try:
                one = self._read(sample, decode_series(raw))
            except Exception as error:
                if len(self._refused) < MAX_NOTED:
                    self._refused.append((printable(bytes(raw).decode(errors="replace")), describe(error)))
                continue
            if one is not None:
                series.append(one)
        series.sort(key=lambda s: s.signature)

    def _read(self, sample: str, series: RangeSeries) -> _Series | None:
        labels = {name: value for name, value in series.metric.items() if name != "__name__"}
        gpu = self._exporter.identity_of(labels)
        if not gpu or not is_usable(gpu):
            if sample in {quantity.sample for quantity in self._exporter.measures}:
                self._unidentified.add(", ".join(sorted(labels)) or "no label")
            return None
        if gpu.isdecimal() and len(gpu) <= 3:  # The index of a GPU in its node, not an identity.
            gpu = printable(f"{self._node(labels) or self._instance(labels)}/gpu-{gpu}")
        values = [(round((t_s - self._start_s) / self._step_s), float(text)) for t_s, text in series.values]
        return _Series(gpu, labels, tuple(sorted(labels.items())), values)

    def samples(self) -> ChunkSamples:
        """Return the merged rows."""
        exporter = self._exporter
        if exporter.energy:
            self._merge_counters(exporter.energy)
        for rank, quantity in enumerate(exporter.power):
            self._merge_watts(rank, quantity)
        for quantity in exporter.limit[::-1]:
            for cell, value in self._known_cells(quantity):
                cell.limit = float(value) if value is not None else cell.limit
        if exporter.utilisation:
            for cell, value in self._known_cells(exporter.utilisation):
                cell.utilisation = utilisation_of(value) if value is not None else cell.utilisation
        rows = [self._row(point, gpu, cell) for gpu, cells in self._cells.items() for point, cell in cells.items()]
        rows.sort(key=lambda row: row[:2])
        return ChunkSamples(
            rows, self._hardware(), sorted(self._merged), sorted(self._shared),
            sorted(self._unidentified)[:MAX_NOTED], self._refused,
        )  # fmt: skip

    def _merge_counters(self, quantity: Quantity) -> None:
        for series, holder, cell, value in self._values(quantity):
            counter = round(value)
            if cell.counter is not None:
                self._merged.add(series.gpu)
            if cell.counter is None or counter > cell.counter:
                cell.counter, cell.labels, cell.signature = counter, series.labels, series.signature
                cell.holder, cell.shared = holder, False
            elif counter == cell.counter:
                cell.add_holder(holder)

    def _merge_watts(self, rank: int, quantity: Quantity) -> None:
        for series, holder, cell, value in self._values(quantity):
            if cell.counter is None:
                cell.add_holder(holder)
                cell.labels = cell.labels or series.labels
            if cell.watts_at is not None and cell.watts_at[2] != series.signature:
                self._merged.add(series.gpu)
            place = rank, cell.signature != series.signature, series.signature
            if cell.watts_at is None or place < cell.watts_at:
                cell.watts, cell.watts_at = float(value), place

    def _values(self, quantity: Quantity) -> Iterator[tuple[_Series, tuple[str, str], _Cell, Fraction]]:
        """Yield each known value of a quantity with its series, that series' holder, and its cell, created if new."""
        for series in self._series.get(quantity.sample, ()):
            cells, holder = self._cells.setdefault(series.gpu, {}), self._holder(series.labels)
            for point, number in series.values:
                value = quantity.value_of(number)
                if value is not None:
                    yield series, holder, cells.setdefault(point, _Cell()), value

    def _known_cells(self, quantity: Quantity) -> Iterator[tuple[_Cell, Fraction | None]]:
        """Yield the cells that have energy or watts, with each value of another quantity."""
        for series in self._series.get(quantity.sample, ())[::-1]:  # The first by its labels is the last to be set.
            cells = self._cells.get(series.gpu, {})
            for point, number in series.values:
                if cell := cells.get(point):
                    yield cell, quantity.value_of(number)

    def _row(self, point: int, gpu: str, cell: _Cell) -> GpuRow:
        labels = cell.labels or {}
        holder = ("", "") if cell.shared or cell.holder is None else cell.holder
        if cell.shared:
            self._shared.add(gpu)
        return GpuRow(
            point=point, gpu=gpu, node=self._node(labels), instance=self._instance(labels), workload=holder[0],
            owner=holder[1], counter_mj=cell.counter, watts=cell.watts, utilisation=cell.utilisation,
            limit_w=cell.limit,
        )  # fmt: skip

    def _node(self, labels: Labels) -> str:
        if self._names.node:
            return printable(labels.get(self._names.node, ""))
        host = self._exporter.host_of(labels)
        # An exporter outside the host's network names its pod, which changes with each restart (dcgm-exporter 78); with
        # a host engine of its own it names `localhost` (572).
        return "" if host in (labels.get("pod"), labels.get("pod_name"), "localhost") else printable(host)

    @staticmethod
    def _instance(labels: Labels) -> str:
        """Return the target that was scraped, without its port."""
        for name in INSTANCE_LABELS:
            if value := labels.get(name):
                host, _, port = value.rpartition(":")
                return printable(host.strip("[]") if host and port.isdecimal() else value)
        return ""

    def _holder(self, labels: Labels) -> tuple[str, str]:
        names = self._names
        workload, owner = labels.get(names.workload, ""), labels.get(names.owner, "")
        return printable(workload).lstrip("~"), "" if owner.startswith("__") else printable(owner)

    def _hardware(self) -> dict[str, tuple[int, str]]:
        """Return the first product name of each GPU: the smallest, where several begin at one point."""
        sample = self._exporter.hardware[0]
        names = [sample] if sample else list(self._series)
        hardware: dict[str, tuple[int, str]] = {}
        for series in (one for name in names for one in self._series.get(name, ())):
            product = self._exporter.product_of(series.labels)
            if product and series.values:
                seen = series.values[0][0], product
                hardware[series.gpu] = min(hardware.get(series.gpu, seen), seen)
        return hardware


def samples_of(exporter: ExporterFormat) -> list[str]:
    """Return the names of all samples that are asked for, each once: those of energy and power first."""
    others = [*exporter.limit, *([exporter.utilisation] if exporter.utilisation else [])]
    names = [quantity.sample for quantity in (*exporter.measures, *others)]
    return list(dict.fromkeys([*names, *([exporter.hardware[0]] if exporter.hardware[0] else [])]))
