"""Random power files with faults that lose no reading: the energy is exact."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.producers.recordings.csv.power import energy

T0 = 1_782_900_000_000
HEADER = ["time", "index", "power.draw [W]", "power.draw.instant [W]"]
UNKNOWN = ("[N/A]", "", "ERR!", "[Not Supported]", "[Unknown Error]")


class Row(NamedTuple):
    """A reading of a GPU, in milliwatts, and whether another header comes before it."""

    t_ms: int
    gpu: int
    mw: int
    header: bool = False


def _curve(rng: random.Random) -> list[Row]:
    """Return the readings of some GPUs at a steady step, tick by tick."""
    step_ms, gpus = rng.choice((200, 1000, 1000, 5000, 60_000)), rng.choice((1, 1, 2, 4))
    return [
        Row(T0 + tick * step_ms + rng.randrange(step_ms // 20) + gpu, gpu, rng.randrange(700_000))
        for tick in range(rng.randrange(12, 40))
        for gpu in range(gpus)
    ]


def _truth_uj(rows: list[Row]) -> int:
    """Return the trapezoids of all GPUs, each rounded down once."""
    total_uj = 0
    for gpu in {row.gpu for row in rows}:
        of_gpu = sorted(row for row in rows if row.gpu == gpu)
        total_uj += sum((a.mw + b.mw) * (b.t_ms - a.t_ms) for a, b in pairwise(of_gpu)) // 2
    return total_uj


def _headers(rng: random.Random, rows: list[Row]) -> list[Row]:
    return [row._replace(header=rng.random() < 0.1) for row in rows]


def _shuffled(rng: random.Random, rows: list[Row]) -> list[Row]:
    return rng.sample(rows, len(rows))


def _newest_first(rng: random.Random, rows: list[Row]) -> list[Row]:
    return rows[::-1]


def _late_row(rng: random.Random, rows: list[Row]) -> list[Row]:
    at = rng.randrange(len(rows))
    return rows[:at] + rows[at + 1 : at + 6] + rows[at : at + 1] + rows[at + 6 :]


def _twice(rng: random.Random, rows: list[Row]) -> list[Row]:
    return rows + rows


def _overlap(rng: random.Random, rows: list[Row]) -> list[Row]:
    at = rng.randrange(len(rows) // 2, len(rows))
    return [*rows[:at], rows[at // 2]._replace(header=True), *rows[at // 2 + 1 :]]


def _halves_in_the_wrong_order(rng: random.Random, rows: list[Row]) -> list[Row]:
    ticks = len({row.gpu for row in rows})
    at = len(rows) // 2 // ticks * ticks
    return [rows[at]._replace(header=True), *rows[at + 1 :], rows[0]._replace(header=True), *rows[1:at]]


FAULTS: list[Callable[[random.Random, list[Row]], list[Row]]] = [
    _headers, _shuffled, _newest_first, _late_row, _twice, _overlap, _halves_in_the_wrong_order,
]  # fmt: skip


def _text(rng: random.Random, rows: list[Row]) -> str:
    """Return rows as CSV: cells in any unit, in one of two columns, which may come in another order."""
    order = list(range(len(HEADER)))
    lines = [HEADER]
    for row in rows:
        if row.header:
            order = rng.sample(order, len(order))
            lines.append([HEADER[i] for i in order])
        watts = rng.choice((f"{row.mw / 1000:.3f} W", f"{row.mw} mW", f"{row.mw / 1000:.3f}", f"{row.mw / 1e6:.6f} kW"))
        cells = [str(row.t_ms), str(row.gpu), watts, f"{rng.randrange(900)} W"]
        if rng.random() < 0.3:
            cells[2], cells[3] = rng.choice(UNKNOWN), watts
        lines.append([cells[i] for i in order] if len(lines) > 1 else cells)
    return "".join(f"{', '.join(line)}\n" for line in lines)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
@pytest.mark.parametrize("seed", range(12))
def test_energy_is_exact_in_spite_of_a_fault(tmp_path: Path, fault: Callable[..., list[Row]], seed: int) -> None:
    rng = random.Random(seed)
    rows = _curve(rng)
    replayed = energy(tmp_path / "p.csv", _text(rng, fault(rng, rows)))
    assert (round(replayed.joules * 1e6), replayed.nodes) == (_truth_uj(rows), {"csv"})
    assert "counter" not in replayed.by_method
    assert fault is _headers or replayed.notes.count("time") > 0
