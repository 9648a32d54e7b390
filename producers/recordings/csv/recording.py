"""The user's own recordings: a CSV of power readings and a CSV of requests. docs/replay.md documents the columns.

Both files are streamed, twice: once to learn their span and workloads, once for their events. Memory is bounded by
REORDER_ROWS held back per file (to sort what is unsorted) and by the names of GPUs and workloads, MAX_NAMES each.
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
    """What a first look at the files found."""

    start_ms: int | None = None
    end_ms: int = 0
    rows: int = 0
    odd: ReadingAnomalies = field(default_factory=ReadingAnomalies)
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
    """The recording of two CSV files. The names given hold where a file does not name its own.

    `utc_offset` is the zone of stamps that name none. Raises BadInput for a file that cannot be opened, is empty, or
    lacks a required column (it lists the columns found and needed), and when no row of either file can be read.
    """
    for what, name in (
        ("cluster", cluster),
        ("workload", workload),
        ("node", node),
        ("gpu", gpu),
        ("hardware", hardware),
    ):
        check_name(what, name)
    if max_gap_ms <= 0:
        raise BadInput("max_gap_ms", max_gap_ms, "give 1 ms or more")
    defaults = CsvDefaults(cluster, workload, node, gpu, hardware, owner, base.offset_ms(utc_offset), max_gap_ms)
    seen = RecordingSpan()
    for row in token_rows(tokens, defaults):
        if isinstance(row, TokenRow):
            seen.add(row.t_start_ms, row.t_end_ms, (row.cluster, row.workload))
    for item in power_rows(power, defaults, seen.odd):
        if isinstance(item, PowerRow):
            seen.add(item.t0_ms, item.t1_ms, (item.cluster, item.workload))
    if seen.start_ms is None:
        raise BadInput("files", f"{tokens.name}, {power.name}", "neither has a row that can be read")
    start_ms, end_ms = seen.start_ms, seen.end_ms
    digest = base.fingerprint((tokens, power), defaults)
    source = base.source_name("csv", tokens, digest)

    def events() -> Iterator[Event | BadRow]:
        rows = merge(
            _in_order(token_rows(tokens, defaults)),
            _in_order(power_rows(power, defaults, ReadingAnomalies())),
            key=lambda p: p[0],
        )
        yield from events_of(
            (row for _, row in rows), name=source, groups=seen.groups, epoch=start_ms, end_ms=end_ms,
            close_ms=close_ms,
        )  # fmt: skip

    return Recording(
        cluster, f"{tokens.name} and {power.name}", start_ms, end_ms, (start_ms, end_ms), "", seen.rows, events,
        notes=_notes(power, defaults, seen),
    )  # fmt: skip


def _in_order(rows: Iterator[Row | BadRow]) -> Iterator[tuple[int, Row | BadRow]]:
    """Rows in order, each with the time at which it is sent; a bad row goes with the row before it."""
    now_ms = 0
    for row in reorder(rows):
        if not isinstance(row, BadRow):
            now_ms = max(now_ms, row.key_ms)
        yield now_ms, row


def _notes(power: Path, defaults: CsvDefaults, seen: RecordingSpan) -> tuple[str, ...]:
    table = CsvTable(power, POWER_COLUMNS, ("time",))
    notes = []
    if not table.has("gpu"):
        notes.append(f"{power.name} names no GPU: all its readings are taken as those of one, {defaults.gpu}.")
    if not table.has("hardware"):
        notes.append(f"{power.name} names no hardware: {defaults.hardware} is used.")
    if seen.odd.resets:
        notes.append(
            f"{seen.odd.resets} times an energy counter went back or leapt: estimated from watts where there are any."
        )
    if seen.odd.gaps:
        notes.append(f"{seen.odd.gaps} gaps in which nothing was measured: no energy is made up for them.")
    return tuple(notes)
