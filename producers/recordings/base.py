"""Rows of recordings, and the shape of a recording.

A reader is pure: files in, an iterator out. It yields timed rows (`PowerRow`, `TokenRow`) and reports (`BadRow`),
and `batches.events_of` turns them into numbered events.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from contracts.errors import BadInput
from contracts.events import Event
from producers.recordings.unpack import CutFileError, open_unpacked, stem

CLOSE_MS = 135_000
"""Time past its end that a recording's last heartbeat reaches, so that each window of the recording becomes final.

It is the sum of the settings' defaults: lateness 120 s, skew 5 s, one window of 10 s.
"""
HOLD_MS = 60_000
"""A row is sent when it ends, or this long after its start if it is longer.

This is less than the lateness, so no row of a recording is late for the window in which it began.
"""
REORDER_ROWS = 65_536
"""Rows that are held back to bring an unsorted file into order."""


@dataclass(slots=True, frozen=True)
class BadRow:
    """A row that cannot be read, for the dead-letter topic. Reading goes on behind it.

    `file` is the file's name without its folder. `line` counts from 1, where a header is line 1. `column` is "" if
    the whole line is wrong. `value` is the cell or the line, cut at 200 characters.
    """

    file: str
    line: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        return f"{self.file}, line {self.line}{column}: {self.value!r}: {self.reason}"


def bad_row(file: Path, line: int, column: str, value: str, reason: str) -> BadRow:
    """Return a report whose value can be printed and encoded, whatever bytes the file holds."""
    printable_value = value[:200].encode("utf-8", "backslashreplace").decode()
    return BadRow(file.name, line, column, printable_value, reason)


class PowerRow(NamedTuple):
    """Energy of one GPU over `[t0_ms, t1_ms)`. `key_ms` is the time at which it is sent."""

    key_ms: int
    cluster: str
    workload: str
    node: str
    gpu_uuid: str
    hardware: str
    t0_ms: int
    t1_ms: int
    energy_uj: int
    method: int
    busy_ms: int = -1
    owner: str = ""


class TokenRow(NamedTuple):
    """One request, or several that one row stands for. `key_ms` is the time at which it is sent."""

    key_ms: int
    cluster: str
    workload: str
    tenant: str
    model: str
    request_id: str
    t_start_ms: int
    t_first_ms: int
    t_end_ms: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    status: str = "ok"
    session_id: str = ""
    trace_id: str = ""
    requests: int = 1


Row = PowerRow | TokenRow


def key_ms(t0_ms: int, t1_ms: int) -> int:
    """Return when a row over `[t0_ms, t1_ms)` is sent, in event time (`HOLD_MS`)."""
    return max(t0_ms, min(t1_ms - 1, t0_ms + HOLD_MS))


@dataclass(slots=True, frozen=True)
class RecordingIdleFloor:
    """Power of one device without work, for the `idle_floors` table."""

    hardware: str
    idle_mw: int
    source: str


@dataclass(frozen=True)
class Recording:
    """A recording, ready to be replayed. Times are UTC epoch milliseconds.

    `window` is the half-open measured window, and `workload` the workload of what ran in it ("" for all
    workloads): the summary covers these. `rows` counts power and token rows, or is None if that is unknown before
    reading. `events()` begins again on each call and yields the same each time.

    `references` are published or recorded figures that the ledger should agree with. `notes` say what was derived
    or assumed, or is missing. `simulated` is true if the energy is a model's: then whatever shows it must say
    SIMULATED.
    """

    cluster: str
    name: str
    start_ms: int
    end_ms: int
    window: tuple[int, int]
    workload: str
    rows: int | None
    events: Callable[[], Iterator[Event | BadRow]]
    references: dict[str, str] = field(default_factory=dict)
    idle_floors: tuple[RecordingIdleFloor, ...] = ()
    notes: tuple[str, ...] = ()
    simulated: bool = False
    edges: str = ""
    """Workload of energy that was drawn in the measured window but is not in `workload`'s (used by `mlperf`)."""


def fingerprint(files: Iterable[Path], *options: object) -> str:
    """Return twelve hexadecimal digits of the files' unpacked bytes and of the options that shape the events.

    The fingerprint is part of the events' source. The same replay twice is a duplicate, but a file that was
    corrected or has grown is another recording. Without it, new rows would get numbers that were used before, and
    would be dropped as duplicates. So the `repr` of each option must stay the same over releases.
    """
    digest = hashlib.sha256(repr(options).encode())
    for path in files:
        with open_unpacked(path) as file:
            digest.update(_digest(file))
    return digest.hexdigest()[:12]


def _digest(file: io.BufferedReader) -> bytes:
    """Return the SHA-256 of a file, of a damaged compressed one up to the damage."""
    digest = hashlib.sha256()
    with contextlib.suppress(CutFileError):
        while chunk := file.read1(1 << 20):
            digest.update(chunk)
    return digest.digest()


def source_name(kind: str, file: Path, digest: str) -> str:
    """Return the beginning of a recording's sources: `KIND/FILE@FINGERPRINT`."""
    return f"{kind}/{quote(stem(file), safe='')}@{digest}"


def offset_ms(text: str) -> int:
    """Return a UTC offset such as `+02:00`, `-0700` or `Z` in milliseconds. Raises BadInput for anything else."""
    if text in ("Z", "z"):
        return 0
    match = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", text)
    if not match or int(match[2]) > 14:
        raise BadInput("utc_offset", text, "give the zone of the stamps as +HH:MM or -HH:MM, up to 14 hours")
    ms = (int(match[2]) * 60 + int(match[3])) * 60_000
    return -ms if match[1] == "-" else ms


def reorder(rows: Iterable[Any], max_rows: int = REORDER_ROWS) -> Iterator[Any]:
    """Yield rows (anything with a `key_ms`) in order of it, and hold at most `max_rows` back. Equal keys keep their
    order.

    A row that is out of order by more than that is passed on as it is: the ledger takes it as late.
    """
    heap: list[tuple[int, int, Any]] = []
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            yield row
        elif len(heap) < max_rows:
            heapq.heappush(heap, (row.key_ms, number, row))
        else:
            yield heapq.heappushpop(heap, (row.key_ms, number, row))[2]
    while heap:
        yield heapq.heappop(heap)[2]


def reorder_with_times(rows: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yield rows as `reorder` does, each with its key. A bad row goes with the row before it."""
    now_ms = 0
    for row in reorder(rows):
        if not isinstance(row, BadRow):
            now_ms = max(now_ms, row.key_ms)
        yield now_ms, row
