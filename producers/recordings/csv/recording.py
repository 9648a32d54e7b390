"""The user's own recordings: a CSV of power readings and a CSV of requests. The README documents the columns.

Both files are streamed: the power file three times (`power_file`, once more for the span and workloads, once for the
events), the requests twice. Memory is bounded by REORDER_ROWS held back per file, to sort what is unsorted, and by
MAX_NAMES names each of GPUs and workloads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path

from contracts.errors import BadInput
from contracts.events import Event
from contracts.topics import check_name
from contracts.units import counted, joules, rfc3339
from producers.gpu.plausibility import difference_note
from producers.recordings import base
from producers.recordings.base import BadRow, PowerRow, Recording, reorder_with_times
from producers.recordings.batches import Group, events_of
from producers.recordings.csv.devices import MAX_NAMES
from producers.recordings.csv.intervals import ReadingAnomalies, power_rows
from producers.recordings.csv.node_parts import NodeParts
from producers.recordings.csv.power_file import PowerFile
from producers.recordings.csv_defaults import CsvDefaults, csv_defaults
from producers.recordings.csv_requests import readable_requests, token_rows

MAX_GAP_MS = 300_000
"""Watts are not integrated over longer gaps: no energy is made up where nothing was measured.

Counters bridge any gap.
"""
SKEW_MS = 5_000
"""How far a recording may reach past the present: the setting's default."""


@dataclass(slots=True)
class RecordingSpan:
    """Span, size and workloads of the files, from a first pass."""

    start_ms: int | None = None
    end_ms: int = 0
    rows: int = 0
    intervals: int = 0
    anomalies: ReadingAnomalies = field(default_factory=ReadingAnomalies)
    groups: set[Group] = field(default_factory=set)
    node_parts: NodeParts = field(default_factory=NodeParts)

    def add(self, t0_ms: int, t1_ms: int, group: Group) -> None:
        self.start_ms = t0_ms if self.start_ms is None else min(self.start_ms, t0_ms)
        self.end_ms = max(self.end_ms, t1_ms)
        self.rows += 1
        self.groups.add(group)
        if len(self.groups) > MAX_NAMES:
            raise BadInput("workload", group[1], f"more than {MAX_NAMES} workloads; split the recording")


def csv_recording(
    tokens: Path | None, power: Path, *, cluster: str = "csv", workload: str = "csv", node: str = "csv",
    gpu: str = "gpu-0", hardware: str = "unknown", owner: str = "", tenant: str = "", model: str = "",
    utc_offset: str = "+00:00", timezone: str = "", start: str = "", max_gap_ms: int = MAX_GAP_MS,
    close_ms: int = base.CLOSE_MS, now_ms: int | None = None,
) -> Recording:  # fmt: skip
    """Return the recording of two CSV files, or of power alone. The given names are used where a file has none.

    `utc_offset` or `timezone` (an IANA name) is the zone of times that name none, `start` the time at which relative
    times are 0. Raises BadInput for a file that cannot be opened, is empty or of another format, or lacks a required
    column (it lists the columns found and needed). So it does for one that has no readable row, is ambiguous, or ends
    after `now_ms`.
    """
    named = {"cluster": cluster, "workload": workload, "node": node, "gpu": gpu, "hardware": hardware}
    for field_name, name in named.items():
        check_name(field_name, name)
    if max_gap_ms <= 0:
        raise BadInput("max_gap_ms", max_gap_ms, "give 1 ms or more")
    defaults = csv_defaults(
        **named, owner=owner, tenant=tenant, model=model, utc_offset=utc_offset, timezone=timezone, start=start,
        max_gap_ms=max_gap_ms,
    )  # fmt: skip
    files = [path for path in (tokens, power) if path is not None]
    power_file = PowerFile(power, defaults)
    span = _span(tokens, power_file, defaults)
    name = " and ".join(path.name for path in files)
    if span.start_ms is None:
        reason = (
            "no energy lies between its readings: a GPU needs two, and not only 0 W"
            if power_file.rows
            else "neither has a row that can be read"
        )
        raise BadInput("files", name, f"{reason}; {power_file.reasons}" if power_file.reasons else reason)
    start_ms, end_ms = span.start_ms, span.end_ms
    if now_ms is not None and end_ms > now_ms + SKEW_MS:
        raise BadInput("time", name, _future(end_ms, now_ms))
    source = base.source_name("csv", files[0], base.fingerprint(files, defaults))

    def events() -> Iterator[Event | BadRow]:
        intervals = power_rows(power, power_file.placed(), max_gap_ms, ReadingAnomalies())
        requests = token_rows(tokens, defaults) if tokens else ()
        rows = merge(reorder_with_times(requests), reorder_with_times(intervals), key=lambda p: p[0])
        yield from events_of(
            (row for _, row in rows), name=source, groups=span.groups, epoch=start_ms, end_ms=end_ms,
            close_ms=close_ms,
        )  # fmt: skip

    return Recording(
        cluster=cluster,
        name=name,
        start_ms=start_ms,
        end_ms=end_ms,
        window=(start_ms, end_ms),
        workload="",
        rows=span.rows,
        events=events,
        notes=(*power_file.notes(), *span.node_parts.notes(), *_notes(power_file, defaults, span)),
    )


def _span(tokens: Path | None, power_file: PowerFile, defaults: CsvDefaults) -> RecordingSpan:
    """Return the span of both files. Raises BadInput if no request can be read, of a file that has some."""
    span = RecordingSpan()
    for row in readable_requests(tokens, defaults) if tokens else ():
        span.add(row.t_start_ms, row.t_end_ms, (row.cluster, row.workload))
    for item in power_rows(power_file.path, power_file.placed(), defaults.max_gap_ms, span.anomalies):
        if isinstance(item, PowerRow):
            span.add(item.t0_ms, item.t1_ms, (item.cluster, item.workload))
            span.intervals += 1
            span.node_parts.add(item.cluster, item.node, item.hardware)
    span.node_parts.check()
    return span


def _future(end_ms: int, now_ms: int) -> str:
    ahead_s = (end_ms - now_ms) / 1000
    amount = f"{ahead_s / 3600:.3g} h" if ahead_s >= 3600 else f"{ahead_s / 60:.3g} min"
    return (
        f"ends {amount} in the future ({rfc3339(end_ms)}): are its times local? Then give --timezone (such as "
        "Europe/Berlin) or --utc-offset"
    )


def _notes(power_file: PowerFile, defaults: CsvDefaults, span: RecordingSpan) -> Iterator[str]:
    power, anomalies = power_file.path, span.anomalies
    if power_file.names_no_hardware:
        yield f"{power.name} names no hardware: {defaults.hardware} is used."
    if not span.intervals:
        yield f"{power.name} has no energy: the requests are unmetered."
    elif anomalies.lone_readings:
        yield f"{anomalies.lone_readings} GPUs have a single reading, which makes no energy."
    if anomalies.resets:
        yield f"{anomalies.resets} energy counters went back or leapt: their energy is estimated from watts, if any."
    if anomalies.open_counters:
        gpus = ", ".join(sorted(anomalies.open_counters)[:8])
        yield f"The energy counter of {gpus} stood while watts were drawn: they are integrated."
    if anomalies.differing:
        yield f"{difference_note(anomalies.differing)} Look at the units of the columns."
    if anomalies.holes:
        yield (
            f"{anomalies.holes} holes of {anomalies.holes_ms / 1000:,.3f} s in all, in which nothing was read, are "
            "bridged by the watts or counters at their ends."
        )
    if anomalies.estimated_uj:
        yield (
            f"{joules(anomalies.estimated_uj):,.3f} J of {anomalies.estimated_ms / 1000:,.3f} s are estimated, and "
            "flagged so."
        )
    if anomalies.gaps:
        yield f"{counted(anomalies.gaps, 'gap')} in which nothing was measured: no energy is made up for that time."
