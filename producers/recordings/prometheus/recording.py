"""A history out of Prometheus as a recording: rows to intervals by the meter (`producers.gpu.meter`), to events.

The rows are downloaded first (`download`); then they are read twice: once for their span, their workloads and their
digest, once for their events. The digest is part of the events' source, so the same history twice is a duplicate. So
are the requests of a file beside it (`requests`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from urllib.parse import quote, urlsplit

from contracts import checks, topics
from contracts.errors import BadInput
from contracts.events import Event
from contracts.units import counted, duration, rfc3339
from producers.gpu import meter
from producers.gpu.meter_state import MeterState
from producers.gpu.plausibility import difference_note
from producers.gpu.readings import EnergyInterval, GpuReading
from producers.recordings.base import (
    HOLD_MS,
    BadRow,
    PowerRow,
    Recording,
    TokenRow,
    key_ms,
    reorder,
    reorder_with_times,
)
from producers.recordings.batches import Group, events_of
from producers.recordings.prometheus.covered_time import CoveredTime
from producers.recordings.prometheus.download import ChunkFolder, HistoryRange
from producers.recordings.prometheus.requests import HistoryRequests
from producers.recordings.prometheus.samples import GpuRow

PERIOD_MS = 30_000
"""Period in which an exporter renews its values: DCGM exporter's default. A smaller step only repeats them."""
MAX_GROUPS = 100_000


@dataclass(frozen=True)
class HistoryNames:
    """Names of the rows in the ledger. Without a workload, energy is that of the node's unallocated GPUs."""

    cluster: str
    workload: str = ""
    owner: str = ""


@dataclass
class HistoryReport:
    """Report of a pass over a history: its span, its names, and counts of what was unusual."""

    start_ms: int | None = None
    end_ms: int = 0
    rows: int = 0
    covered: CoveredTime = field(default_factory=CoveredTime)
    groups: set[Group] = field(default_factory=set)
    request_groups: set[Group] = field(default_factory=set)
    gpus: set[str] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    resets: int = 0
    dips: int = 0
    gaps: int = 0
    differing: set[str] = field(default_factory=set)
    """GPUs whose counter and watts differed."""
    merged: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    unidentified: set[str] = field(default_factory=set)
    refused: int = 0
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, row: PowerRow) -> None:
        self.groups.add((row.cluster, row.workload))
        self.gpus.add(row.gpu_uuid)
        self.nodes.add(row.node)
        self.covered.add(row.t0_ms, row.t1_ms)
        self._add_span(row, row.t0_ms, row.t1_ms)

    def add_request(self, row: TokenRow) -> None:
        """Add a request. Requests come after the intervals, without which there is no recording."""
        self.request_groups.add((row.cluster, row.workload))
        self._add_span(row, row.t_start_ms, row.t_end_ms)

    def _add_span(self, row: PowerRow | TokenRow, start_ms: int, end_ms: int) -> None:
        self.start_ms = start_ms if self.start_ms is None else min(self.start_ms, start_ms)
        self.end_ms = max(self.end_ms, end_ms)
        self.rows += 1
        self.digest.update(repr(tuple(row)).encode())
        if max(len(self.groups), len(self.request_groups)) > MAX_GROUPS:
            raise BadInput("workload", row.workload, f"more than {MAX_GROUPS} workloads; replay a shorter time")


class HistoryMeter:
    """Meters the rows of a history, GPU by GPU. An interval belongs to who held the GPU at its first reading."""

    def __init__(self, history: HistoryRange, names: HistoryNames, hardware: Mapping[str, str]) -> None:
        self._history, self._names, self._hardware = history, names, hardware
        self._states: dict[str, MeterState] = {}
        self._first: dict[str, GpuRow] = {}
        self._last: dict[str, tuple[GpuRow, GpuReading]] = {}
        self._nodes: dict[str, str] = {}

    def rows(self, samples: Iterable[GpuRow], report: HistoryReport) -> Iterator[PowerRow]:
        """Yield the intervals between the rows of all GPUs, which are in order of time."""
        for row in samples:
            # Only some of a GPU's samples may name the node; the others name the target that was scraped.
            node = row.node or self._nodes.get(row.gpu) or row.instance or "unknown"
            if row.node:
                self._nodes[row.gpu] = node
            row = row._replace(node=node)
            reading = self._reading(row)
            result = meter.add_reading(self._states.get(row.gpu), reading)
            self._states[row.gpu] = result.state
            report.resets += result.resets
            report.dips += result.dips
            if result.differences:
                report.differing.add(row.gpu)
            report.gaps += result.gaps
            self._last[row.gpu] = row, reading
            yield from self._power_rows(self._first.setdefault(row.gpu, row), result.intervals)
            if result.intervals or result.gaps:
                self._first[row.gpu] = row
        for gpu, (_, reading) in sorted(self._last.items()):  # A counter that stood up to the end: its watts.
            result = meter.send_open(self._states[gpu], reading)
            report.gaps += result.gaps
            yield from self._power_rows(self._first[gpu], result.intervals)

    def _reading(self, row: GpuRow) -> GpuReading:
        t_ms = (self._history.start_s + row.point * self._history.step_s) * 1000
        return GpuReading(
            gpu_uuid=row.gpu, hardware=self._hardware.get(row.gpu, "unknown"), t_ms=t_ms, monotonic_ms=t_ms,
            counter_mj=row.counter_mj, watts=row.watts, utilisation=row.utilisation, limit_w=row.limit_w,
            period_ms=max(self._history.step_s * 1000, PERIOD_MS),
        )  # fmt: skip

    def _power_rows(self, first: GpuRow, intervals: Iterable[EnergyInterval]) -> Iterator[PowerRow]:
        names = self._names
        workload = first.workload or names.workload
        if first.owner:  # A workload has one owner: pods of one name in two namespaces are two workloads.
            workload = f"{first.owner}/{workload or 'gpus'}"[: checks.MAX_TEXT]
        workload = workload or topics.node_workload(first.node)
        for i in intervals:
            yield PowerRow(
                key_ms=key_ms(i.t0_ms, i.t1_ms), cluster=names.cluster, workload=workload, node=first.node,
                gpu_uuid=i.gpu_uuid, hardware=i.hardware, t0_ms=i.t0_ms, t1_ms=i.t1_ms, energy_uj=i.energy_uj,
                method=i.method, busy_ms=i.busy_ms, owner=first.owner or names.owner,
            )  # fmt: skip


def history_recording(
    history: HistoryRange, folder: ChunkFolder, names: HistoryNames, *, close_ms: int, warnings: Iterable[str] = (),
    requests: HistoryRequests | None = None,
) -> Recording:  # fmt: skip
    """Return the recording of a download. Raises BadInput where it has no energy, with what to check."""
    hardware = _hardware(history, folder)
    report = HistoryReport()
    host = urlsplit(history.url).netloc

    def rows(report: HistoryReport) -> Iterator[PowerRow | BadRow]:
        yield from HistoryMeter(history, names, hardware).rows(_samples(history, folder, report), report)
        yield from _bad_rows(history, folder, host)

    for row in reorder(rows(report)):  # The digest is of the order in which they are sent.
        if isinstance(row, PowerRow):
            report.add(row)
        else:
            report.refused += 1
    if report.start_ms is None:
        raise _no_energy(history, report)
    for request in requests.readable() if requests else ():
        report.add_request(request)
    start_ms, end_ms, groups = report.start_ms, report.end_ms, report.groups | report.request_groups
    source = f"prometheus/{quote(host, safe='')}@{report.digest.hexdigest()[:12]}"

    def events() -> Iterator[Event | BadRow]:
        tokens = reorder_with_times(requests.rows() if requests else ())
        merged = merge(tokens, reorder_with_times(rows(HistoryReport())), key=lambda pair: pair[0])
        yield from events_of(
            (row for _, row in merged), name=source, groups=groups, epoch=start_ms, end_ms=end_ms, close_ms=close_ms,
            tick_ms=HOLD_MS,  # Months of heartbeats every 5 s would outnumber the readings.
        )  # fmt: skip

    return Recording(
        cluster=names.cluster,
        name=f"{history.exporter.name} in Prometheus at {host}" + (f" and {requests.name}" if requests else ""),
        start_ms=start_ms,
        end_ms=end_ms,
        window=(start_ms, end_ms),
        workload="",
        rows=report.rows,
        events=events,
        notes=(
            *_notes(history, report, hardware),
            *(requests.notes(report.groups) if requests else ()),
            *(f"The server warns: {w}" for w in sorted(warnings)),
        ),
    )


def _samples(history: HistoryRange, folder: ChunkFolder, report: HistoryReport) -> Iterator[GpuRow]:
    for chunk in folder.read(history.points):
        report.merged.update(chunk.merged)
        report.shared.update(chunk.shared)
        report.unidentified.update(chunk.unidentified)
        yield from chunk.rows


def _bad_rows(history: HistoryRange, folder: ChunkFolder, host: str) -> Iterator[BadRow]:
    for number, chunk in enumerate(folder.read(history.points)):
        for series, reason in chunk.refused:
            yield BadRow(host, number, "series", series, f"cannot be read ({reason})")


def _hardware(history: HistoryRange, folder: ChunkFolder) -> dict[str, str]:
    """Return the first product name of each GPU."""
    hardware: dict[str, str] = {}
    for chunk in folder.read(history.points):
        for gpu, (_, product) in chunk.hardware.items():
            hardware.setdefault(gpu, product)
    return hardware


def _no_energy(history: HistoryRange, report: HistoryReport) -> BadInput:
    exporter = history.exporter
    if report.unidentified:
        hint = f"its series need the label {' or '.join(exporter.identity)}; they have {min(report.unidentified)}"
        return BadInput("format", exporter.name, hint)
    series = " or ".join(quantity.sample for quantity in exporter.measures)
    matched = f" with {', '.join(history.matchers)}" if history.matchers else ""
    return BadInput(
        "format", exporter.name,
        f"no GPU has two samples of a series named {series}{matched} in that time: check --format, --match, --from and "
        "--to, and how long the server keeps samples (Thanos: --param max_source_resolution=5m)",
    )  # fmt: skip


def _notes(history: HistoryRange, report: HistoryReport, hardware: Mapping[str, str]) -> list[str]:
    gpus, nodes = counted(len(report.gpus), "GPU"), counted(len(report.nodes), "node")
    notes = [f"{gpus} on {nodes}, a reading every {history.step_s} s.", *_absence(history, report.covered)]
    if report.merged:
        notes.append(
            f"{counted(len(report.merged), 'GPU')} had several series at one time: each GPU counts once, by its "
            "identity."
        )
    if report.shared:
        was = "was" if len(report.shared) == 1 else "were"
        notes.append(f"{counted(len(report.shared), 'GPU')} {was} shared by several holders: that time has no holder.")
    if report.unidentified:
        labels = " or ".join(history.exporter.identity)
        notes.append(f"Series without the label {labels} are left out; they have {min(report.unidentified)}.")
    if unknown := sum(gpu not in hardware for gpu in report.gpus):
        notes.append(f"The hardware of {counted(unknown, 'GPU')} is unknown: no product name.")
    if report.resets or report.dips:
        notes.append(
            f"Counters started anew {counted(report.resets, 'time')}, and dipped {counted(report.dips, 'time')}: what "
            "they do not show is estimated from watts, if any."
        )
    if report.differing:
        notes.append(difference_note(report.differing))
    if report.gaps:
        notes.append(
            f"{counted(report.gaps, 'gap')} in which nothing was measured: no energy is made up for that time."
        )
    return notes


def _absence(history: HistoryRange, covered: CoveredTime) -> Iterator[str]:
    """Yield how much of the range has no energy of any GPU, as beyond a server's retention."""
    range_ms = (history.points - 1) * history.step_s * 1000
    missing_ms = range_ms - covered.total_ms
    if missing_ms > 2 * history.step_s * 1000:  # A step at each end may only lack its scrape.
        yield (
            f"The server has readings from {rfc3339(covered.start_ms)} to {rfc3339(covered.end_ms)}: "
            f"{duration(missing_ms)} of the {duration(range_ms)} asked for have none."
        )
