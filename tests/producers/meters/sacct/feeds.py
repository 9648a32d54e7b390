"""Feeds of `wattlog produce sacct`: the whole output of the command, a line between good ones, or a cell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from producers.meters.sacct import source
from producers.meters.sacct.job_records import JobRun
from producers.meters.sacct.source import SacctSource
from tests.producers.conformance import ERRORS, VALUES, Feed, Outcome, Piece, poll, quantity, refusals
from tests.support.clocks import FakeClock

T0 = 1_700_000_000
CELLS = "east|%d|%d|COMPLETED|%d|%d|1|n%d|gpu|acme|alice|%s"
MARK = "4321"


def line(number: int, energy: str = "1000000") -> str:
    return CELLS % (number, number, T0, T0 + 1_000, number, energy)


def _run(place: str, piece: Piece, folder: Path) -> Outcome:
    clock = FakeClock(600_000 * 3 - 1, epoch_ms=(T0 + 2_000) * 1000)
    reads = 0

    def read(since_s: int) -> bytes:
        nonlocal reads
        reads += 1
        good = f"{line(1)}\n%s\n{line(3)}\n".encode()
        if place == "output":
            return bytes(piece.read()) if reads == 2 else good.replace(b"%s", b"")
        bad = MARK.encode() if piece.is_error else piece.content
        return good.replace(b"%s", line(2, "%s").encode().replace(b"%s", bad) if place == "cell" else bad)

    parse_line = source.parse_line

    def parse(text: str) -> JobRun:
        if piece.is_error and MARK in text:
            piece.read()
        return parse_line(text)

    accounting = SacctSource("sacct", "c", read, lambda run: run.account)
    with patch.object(source, "parse_line", parse):
        log, metrics = poll([accounting], folder, clock)
    return Outcome(quantity(log, "job_energy_uj"), 2 * 10**12, refusals(metrics))


_ENERGIES: dict[str, Any] = {
    "negative": b"-5", "fraction": b"1.5", "exponent": b"1e9", "suffix": b"1.5M", "two cells": b"5|6",
}  # fmt: skip
FEEDS = {
    "sacct": [
        Feed("output", partial(_run, "output"), "command"),
        Feed("line", partial(_run, "line"), "command", VALUES, ERRORS),
        Feed("cell", partial(_run, "cell"), "command", {**VALUES, **_ENERGIES}, {}),
    ]
}
