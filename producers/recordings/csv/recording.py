"""The user's own recordings: a CSV of power readings and a CSV of requests. docs/replay.md documents the columns.

Both files are streamed, twice: once for their span and workloads, once for their events. Memory is bounded by
REORDER_ROWS held back per file, to sort what is unsorted, and by MAX_NAMES names each of GPUs and workloads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import merge
from pathlib import Path

from contracts.errors import BadInput
from contracts.events import Event
from contracts.topics import check_name
from producers.recordings import base
from producers.recordings.base import BadRow, PowerRow, Recording, Row, TokenRow, reorder
from producers.recordings.batches import Group, events_of
from producers.recordings.csv.rows import (
    MAX_GAP_MS,
    MAX_NAMES,
    POWER_COLUMNS,
    CsvDefaults,
    ReadingAnomalies,
    power_rows,
    token_rows,
)
from producers.recordings.text_lines import CsvTable


@dataclass(slots=True)
class RecordingSpan:
    """Span, size and workloads of the files, from a first pass."""

    start_ms: int | None = None
    end_ms: int = 0
    rows: int = 0
    anomalies: ReadingAnomalies = field(default_factory=ReadingAnomalies)
    groups: set[Group] = field(default_factory=set)

    def add(self, t0_ms: int, t1_ms: int, group: Group) -> None:
        self.start_ms = t0_ms if self.start_ms is None else min(self.start_ms, t0_ms)
        self.end_ms = max(self.end_ms, t1_ms)
        self.rows += 1
        self.groups.add(group)
        if len(self.groups) > MAX_NAMES:
            raise BadInput("workload", group[1], f"more than {MAX_NAMES} workloads; split the recording")


def csv_recording(
    tokens: Path, power: Path, *, cluster: str = "csv", workload: str = "csv", node: str = "csv", gpu: str = "gpu-0",
    hardware: str = "unknown", owner: str = "", utc_offset: str = "+00:00", max_gap_ms: int = MAX_GAP_MS,
    close_ms: int = base.CLOSE_MS,
) -> Recording:  # fmt: skip
    """Return the recording of two CSV files. The given names are used where a file does not have its own.

    `utc_offset` is the zone of times that name none. Raises BadInput for a file that cannot be opened, is empty,
    or lacks a required column (it lists the columns found and needed), and if no row of either file can be read.
    """
    for field_name, name in (
        ("cluster", cluster),
        ("workload", workload),
        ("node", node),
        ("gpu", gpu),
        ("hardware", hardware),
    ):
        check_name(field_name, name)
    if max_gap_ms <= 0:
        raise BadInput("max_gap_ms", max_gap_ms, "give 1 ms or more")
    defaults = CsvDefaults(
        cluster=cluster,
        workload=workload,
        node=node,
        gpu=gpu,
        hardware=hardware,
        owner=owner,
        zone_ms=base.offset_ms(utc_offset),
        max_gap_ms=max_gap_ms,
    )
    span = RecordingSpan()
    for row in token_rows(tokens, defaults):
        if isinstance(row, TokenRow):
            span.add(row.t_start_ms, row.t_end_ms, (row.cluster, row.workload))
    for item in power_rows(power, defaults, span.anomalies):
        if isinstance(item, PowerRow):
            span.add(item.t0_ms, item.t1_ms, (item.cluster, item.workload))
    if span.start_ms is None:
        raise BadInput("files", f"{tokens.name}, {power.name}", "neither has a row that can be read")
    start_ms, end_ms = span.start_ms, span.end_ms
    digest = base.fingerprint((tokens, power), defaults)
    source = base.source_name("csv", tokens, digest)

    def events() -> Iterator[Event | BadRow]:
        rows = merge(
            _in_order(token_rows(tokens, defaults)),
            _in_order(power_rows(power, defaults, ReadingAnomalies())),
            key=lambda p: p[0],
        )
        yield from events_of(
            (row for _, row in rows), name=source, groups=span.groups, epoch=start_ms, end_ms=end_ms,
            close_ms=close_ms,
        )  # fmt: skip

    return Recording(
        cluster=cluster,
        name=f"{tokens.name} and {power.name}",
        start_ms=start_ms,
        end_ms=end_ms,
        window=(start_ms, end_ms),
        workload="",
        rows=span.rows,
        events=events,
        notes=_notes(power, defaults, span),
    )


def _in_order(rows: Iterator[Row | BadRow]) -> Iterator[tuple[int, Row | BadRow]]:
    """Yield rows in order, each with the time at which it is sent. A bad row goes with the row before it."""
    now_ms = 0
    for row in reorder(rows):
        if not isinstance(row, BadRow):
            now_ms = max(now_ms, row.key_ms)
        yield now_ms, row


def _notes(power: Path, defaults: CsvDefaults, span: RecordingSpan) -> tuple[str, ...]:
    table = CsvTable(power, POWER_COLUMNS, ("time",))
    notes = []
    if not table.has("gpu"):
        notes.append(f"{power.name} names no GPU: all its readings are taken as those of one, {defaults.gpu}.")
    if not table.has("hardware"):
        notes.append(f"{power.name} names no hardware: {defaults.hardware} is used.")
    if span.anomalies.resets:
        notes.append(
            f"{span.anomalies.resets} energy counters went back or leapt: their energy is estimated from watts, if any."
        )
    if span.anomalies.gaps:
        notes.append(f"{span.anomalies.gaps} gaps in which nothing was measured: no energy is made up for them.")
    return tuple(notes)
