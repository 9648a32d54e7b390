"""Feeds of `wattlog replay prometheus`: the value of one GPU's sample between those of two others; a request's cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from contracts.events import PowerBatch, TokenBatch
from producers.recordings.base import BadRow
from producers.recordings.csv_table import CsvLine
from producers.recordings.prometheus import samples
from producers.recordings.prometheus.range_query import decode_series
from tests.producers.conformance import VALUES, Feed, Outcome, Piece
from tests.producers.recordings.prometheus.history import ENERGY, T0, open_history, steady
from tests.producers.recordings.prometheus.stand_in import StandIn
from tests.producers.recordings.replay import class_of


def _run(piece: Piece, folder: Path) -> Outcome:
    server = StandIn()
    value = "1" if piece.is_error else piece.content.decode("utf-8", "replace")
    server.add(ENERGY, [(T0 + 300, value)], UUID="GPU-x")
    for uuid in ("GPU-a", "GPU-b"):
        server.add(ENERGY, steady(), UUID=uuid)

    def decode(raw: Any) -> Any:
        if piece.is_error and b"GPU-x" in bytes(raw):
            piece.read()
        return decode_series(raw)

    with patch.object(samples, "decode_series", decode):
        items = list(open_history(server, folder).events())
    bad = [item for item in items if isinstance(item, BadRow)]
    batches = [item.batch for item in items if not isinstance(item, BadRow)]
    energy_uj = sum(int(batch.energy_uj.sum()) for batch in batches if isinstance(batch, PowerBatch))
    reasons = {(row.file, class_of(row.reason)): 1.0 for row in bad}
    return Outcome(energy_uj, 2 * 300 * 600 * 1_000_000, reasons, [str(row) for row in bad])


def _run_requests(piece: Piece, folder: Path) -> Outcome:
    server = StandIn()
    server.add(ENERGY, steady(), UUID="GPU-a")
    cell = b"4321" if piece.is_error else piece.content
    good = b"%d,%d,a,m,1,2\n" % (T0 + 5, T0 + 9)
    header = b"start,end,tenant,model,prompt_tokens,completion_tokens\n"
    tokens = folder / "t.csv"
    tokens.write_bytes(header + good + b"%d,%d,a,m,%s,2\n" % (T0 + 5, T0 + 9, cell) + good)
    count = CsvLine.count

    def read(line: CsvLine, name: str, *args: Any, **options: Any) -> int:
        if piece.is_error and line.get(name) == "4321":
            piece.read()
        return count(line, name, *args, **options)

    with patch.object(CsvLine, "count", read):
        items = list(open_history(server, folder / "history", tokens=tokens, workload="w").events())
    bad = [item for item in items if isinstance(item, BadRow)]
    batches = [item.batch for item in items if not isinstance(item, BadRow)]
    requests = sum(len(batch) for batch in batches if isinstance(batch, TokenBatch))
    reasons = {(row.file, class_of(row.reason)): 1.0 for row in bad}
    return Outcome(requests, 2, reasons, [str(row) for row in bad])


_BLANKS = ("NaN", "infinity", "-infinity", "overflow", "huge")
FEEDS = {
    "prometheus": [
        Feed("value", _run, "page", VALUES, harmless=_BLANKS), Feed("requests", _run_requests, "file")
    ]
}  # fmt: skip
