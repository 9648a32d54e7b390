"""Feeds of the recordings: a line, or a cell, of each of their files; sent to the log as `wattlog replay` does.

A refused row goes to the dead-letter topic, and is listed with its file, line and reason.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cli.log_feed import LogFeed
from contracts import codec
from contracts.events import Event, PowerBatch, TokenBatch
from producers.recordings.azure.recording import azure
from producers.recordings.base import Recording
from producers.recordings.csv.recording import csv_recording
from producers.recordings.csv_table import CsvLine
from producers.recordings.mlperf import recording as mlperf_recording
from producers.recordings.mlperf.recording import mlperf
from tests.producers.conformance import VALUES, Feed, Outcome, Piece
from tests.producers.recordings.mlperf.test_recording import _folder, _line
from tests.producers.recordings.replay import class_of

MARK = b"4321"
"""Cell, in place of a number, whose reading raises the exception of a piece."""
T0 = 1_700_000_000
TOKENS = b"start,end,tenant,model,prompt_tokens,completion_tokens\n%d,%d,a,m,1,2\n" % (T0, T0)
_REQUEST = b"%d,%d,a,m,%s,2" % (T0, T0, MARK)
TRACE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-01-01 00:00:00,1,2\n"


class _Log:
    """The log of a replay."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.dead_letters = 0

    def send(self, event: Event) -> int:
        self.events.append(event)
        return 1

    def send_raw(self, topic: str, key: bytes | None, headers: codec.Headers, value: bytes) -> None:
        self.dead_letters += 1

    def poll(self, timeout_s: float = 0.0) -> None: ...

    def flush(self) -> None: ...


def _replay(recording: Recording, amount: Callable[[Event], float], expected: float) -> Outcome:
    log = _Log()
    feed = LogFeed(log, None, 0)  # type: ignore[arg-type]
    asyncio.run(feed.run(recording.events(), lambda sent: None))
    bad = feed.sent.bad_rows
    assert log.dead_letters == len(bad)
    reasons = Counter({(row.file, class_of(row.reason)): 1.0 for row in bad})
    return Outcome(sum(map(amount, log.events)), expected, reasons, [str(row) for row in bad])


def _requests(event: Event) -> float:
    return len(event.batch) if isinstance(event.batch, TokenBatch) else 0


def _gpu_rows(event: Event) -> float:
    return len(event.batch) if isinstance(event.batch, PowerBatch) else 0


def _raising(piece: Piece, read: Callable[..., Any]) -> Callable[..., Any]:
    """Return a reader of cells that raises the exception of a piece where the cell is MARK."""

    def read_cell(line: CsvLine, name: str, *args: Any, **options: Any) -> Any:
        if piece.is_error and line.get(name) == MARK.decode():
            piece.read()
        return read(line, name, *args, **options)

    return read_cell


def _bad_line(place: str, piece: Piece, template: bytes) -> bytes:
    if place == "line" and not piece.is_error:
        return bytes(piece.content)
    return template.replace(MARK, MARK if piece.is_error else piece.content)


def _run_csv_column(column: int, piece: Piece, folder: Path) -> Outcome:
    cells = [b"%d" % T0, b"%d" % (T0 + 1), b"a", b"m", b"1", b"2"]
    cells[column] = MARK
    return _run_csv_requests("cell", piece, folder, b",".join(cells))


def _run_csv_requests(place: str, piece: Piece, folder: Path, template: bytes = _REQUEST) -> Outcome:
    bad = _bad_line(place, piece, template)
    (folder / "t.csv").write_bytes(TOKENS + bad + b"\n%d,%d,b,m,1,2\n" % (T0 + 1, T0 + 1))
    (folder / "p.csv").write_text(f"time,power_w\n{T0},1\n{T0 + 1},1\n")
    with patch.object(CsvLine, "count", _raising(piece, CsvLine.count)):
        return _replay(csv_recording(folder / "t.csv", folder / "p.csv"), _requests, 2)


def _run_csv_readings(place: str, piece: Piece, folder: Path, column: str = "power_w") -> Outcome:
    (folder / "t.csv").write_bytes(TOKENS)
    bad = _bad_line(place, piece, b"%d,%s" % (T0 + 1, MARK))
    (folder / "p.csv").write_bytes(b"time,%s\n%d,1\n%s\n%d,1000\n" % (column.encode(), T0, bad, T0 + 2))
    text = CsvLine.text

    def read_text(line: CsvLine, name: str, default: str) -> str:
        if piece.is_error and line.cell(1) == MARK.decode():
            piece.read()
        return text(line, name, default)

    with patch.object(CsvLine, "text", read_text):
        return _replay(csv_recording(folder / "t.csv", folder / "p.csv"), _gpu_rows, 1)


def _run_azure(place: str, piece: Piece, folder: Path) -> Outcome:
    bad = _bad_line(place, piece, b"2024-01-01 00:00:01,%s,5" % MARK)
    (folder / "x.csv").write_bytes(TRACE + bad + b"\n2024-01-01 00:00:02,1,2\n")
    with patch.object(CsvLine, "count", _raising(piece, CsvLine.count)):
        return _replay(azure(folder / "x.csv"), _requests, 2)


def _run_mlperf(place: str, piece: Piece, folder: Path) -> Outcome:
    good = [_line(second, 100 + second) for second in range(20)]
    expected = sum(map(_gpu_rows, mlperf(_folder(folder, good)).events()))  # type: ignore[arg-type]
    lines = [line.encode() for line in good]
    lines.insert(6, _bad_line(place, piece, _line(5.5, MARK.decode()).encode()))
    (folder / "spl.txt").write_bytes(b"\n".join(lines))
    microwatts = mlperf_recording.microwatts

    def read(text: str) -> int:
        if piece.is_error and text == MARK.decode():
            piece.read()
        return microwatts(text)

    with patch.object(mlperf_recording, "microwatts", read):
        return _replay(mlperf(folder), _gpu_rows, expected)


def _feeds(name: str, run: Callable[[str, Piece, Path], Outcome]) -> list[Feed]:
    return [
        Feed(f"{name}'s cell", partial(run, "cell"), "file"),
        Feed(f"{name}'s line", partial(run, "line"), "file", VALUES, {}),
    ]


_NAMES = ("overflow", "NaN", "infinity", "-infinity", "null", "text", "surrogate")
_NO_NAMES = {name: content for name, content in VALUES.items() if name not in _NAMES}
"""Pieces that cannot be the name of a tenant or a model."""
FEEDS = {
    "csv": [
        *_feeds("requests", _run_csv_requests),
        *(Feed(f"column {n}", partial(_run_csv_column, n), "file", VALUES, {}) for n in (0, 1, 5)),
        *(Feed(f"column {n}", partial(_run_csv_column, n), "file", _NO_NAMES, {}) for n in (2, 3)),
        *_feeds("power", _run_csv_readings),
        *(
            Feed(column, partial(_run_csv_readings, "cell", column=column), "file", VALUES, {})
            for column in ("energy_mj", "energy_j")
        ),
    ],
    "azure": _feeds("trace", _run_azure),
    "mlperf": _feeds("PTDaemon", _run_mlperf),
}
