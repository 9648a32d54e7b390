"""Feeds of `wattlog produce exporter`: a whole page, or the value of one GPU of two."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from producers.gpu.exporter.sensor import ExporterSensor
from producers.gpu.exporter_formats import PRESETS, UNITS
from tests.producers.conformance import VALUES, Feed, Outcome, Piece, joules, refusals, sample
from tests.support.clocks import FakeClock


def _run(exporter: str, place: str, piece: Piece, folder: Path) -> Outcome:
    form, clock = PRESETS[exporter], FakeClock(6_000)

    def lines(uuid: str, value: str = "") -> str:
        counter = ""
        if form.energy:
            energy = float(300 * clock.now_ms / UNITS[form.energy.unit])
            counter = f'{form.energy.sample}{{{form.identity[0]}="{uuid}"}} {value or energy}\n'
        return counter + f'{form.power[-1].sample}{{{form.identity[0]}="{uuid}"}} {value or 300}\n'

    def fetch() -> str:
        if clock.now_ms != 3_000:
            return lines("GPU-a") + lines("GPU-b")
        text = piece.read().decode("utf-8", "replace")
        return text if place == "page" else lines("GPU-a") + lines("GPU-b", text)

    log, metrics = sample(ExporterSensor(form, fetch), folder, clock)
    return Outcome(joules(log), 2 * 6 * 300, refusals(metrics))


_BLANKS = ("NaN", "infinity", "-infinity", "overflow", "huge")
"""An exporter's values for what it does not know; others are no number."""
FEEDS = {
    "exporter": [
        Feed(f"{place} of {name}", partial(_run, name, place), "page", VALUES, harmless=_BLANKS * (place == "value"))
        for name in PRESETS for place in ("page", "value")
    ]
}  # fmt: skip
