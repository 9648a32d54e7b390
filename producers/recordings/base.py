"""What every reader of recordings yields, and the shape in which it hands a recording over.

A reader is pure: files in, an iterator out. It makes timed rows (`PowerRow`, `TokenRow`) and reports (`BadRow`);
`batches.events_of` turns them into numbered events.
"""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from contracts.errors import BadInput
from contracts.events import Event

CLOSE_MS = 135_000
"""How far past its end a recording's last heartbeat reaches: lateness 120 s + skew 5 s + one window of 10 s, the
settings' defaults, so that every window of the recording becomes final."""
HOLD_MS = 60_000
"""A row is sent when it ends, or this long after it began if it is longer: less than the lateness, so that no row of
a recording comes too late for the window in which it began."""
REORDER_ROWS = 65_536
"""Rows that are held back to bring an unsorted file into order."""


@dataclass(slots=True, frozen=True)
class BadRow:
    """A row that cannot be read, for the dead-letter topic. Reading goes on behind it.

    `file` is the file's name without its folder, `line` counts from 1 (a header is line 1), `column` is "" where the
    whole line is at fault, `value` is the cell or the line, cut at 200 characters.
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
    """A report whose value can be printed and encoded, whatever bytes were in the file."""
    shown = value[:200].encode("utf-8", "backslashreplace").decode()
    return BadRow(file.name, line, column, shown, reason)


class PowerRow(NamedTuple):
    """Energy of one GPU over `[t0_ms, t1_ms)`. `key_ms` says when it is sent."""

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
    """One request. `key_ms` says when it is sent."""

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


Row = PowerRow | TokenRow


def key_ms(t0_ms: int, t1_ms: int) -> int:
    """When a row over `[t0_ms, t1_ms)` is sent, in event time. See HOLD_MS."""
    return max(t0_ms, min(t1_ms - 1, t0_ms + HOLD_MS))


@dataclass(slots=True, frozen=True)
class RecordingIdleFloor:
    """What one device draws when powered without work, for the `idle_floors` table."""

    hardware: str
    idle_mw: int
    source: str


@dataclass(frozen=True)
class Recording:
    """A recording, ready to be replayed. Times are UTC epoch milliseconds.

    `window` is the half-open measured window, and `workload` the workload that holds what ran in it: the summary is
    given for these. `workload` is "" where that is everything. `rows` counts power and token rows together, as far
    as they are known before reading (None: not). `events()` starts anew on each call and yields the same each time.
    `references` are published or recorded figures that the ledger should agree with; `notes` say what was derived,
    assumed or is missing; `simulated` says that the energy is a model's, so whatever shows it must say SIMULATED.
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
    """Workload of energy that was drawn in the measured window but is not in `workload`'s: see `mlperf`."""


def fingerprint(files: Iterable[Path], *options: object) -> str:
    """Twelve hexadecimal digits of the files' bytes and the options that shape the events.

    It is part of the events' source: the same replay twice is a duplicate, but a file that was mended or has grown is
    another recording. Without it, the new rows would bear numbers that were already used, and be dropped unseen.
    """
    digest = hashlib.sha256(repr(options).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def source_name(kind: str, file: Path, digest: str) -> str:
    """What the sources of a recording's events begin with: `KIND/FILE@FINGERPRINT`."""
    return f"{kind}/{quote(file.stem, safe='')}@{digest}"


def offset_ms(text: str) -> int:
    """A UTC offset such as `+02:00`, `-0700` or `Z` in milliseconds. Raises BadInput for anything else."""
    if text in ("Z", "z"):
        return 0
    found = re.fullmatch(r"([+-])(\d\d):?([0-5]\d)", text)
    if not found or int(found[2]) > 14:
        raise BadInput("utc_offset", text, "give the zone of the stamps as +HH:MM or -HH:MM, up to 14 hours")
    ms = (int(found[2]) * 60 + int(found[3])) * 60_000
    return -ms if found[1] == "-" else ms


def reorder(rows: Iterable[Any], held: int = REORDER_ROWS) -> Iterator[Any]:
    """Brings rows (anything with a `key_ms`) into its order, holding at most `held` back; equal keys keep their order.

    A row that is out of order by more than that passes as it is: the ledger takes it as late.
    """
    heap: list[tuple[int, int, Any]] = []
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            yield row
        elif len(heap) < held:
            heapq.heappush(heap, (row.key_ms, number, row))
        else:
            yield heapq.heappushpop(heap, (row.key_ms, number, row))[2]
    while heap:
        yield heapq.heappop(heap)[2]
