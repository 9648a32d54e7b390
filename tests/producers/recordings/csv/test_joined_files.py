"""Power files joined end to end, out of order, repeated or cut: noted, with no energy lost or counted twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.producers.recordings.csv.power import energy, smi

HEADER = "timestamp, index, power.draw [W]"


def _run(at: str, watts: float, *, rows: int = 5, step_s: float = 1, gpus: int = 1) -> list[str]:
    """Return the rows of a run of nvidia-smi without their header: each tick has a row of each GPU."""
    lines = smi("x", cells=[""] * rows, step_s=step_s, at=f"2026/07/01 {at}")[1:]
    return [f"{line.rstrip(', ')}, {gpu}, {watts:.2f} W" for line in lines for gpu in range(gpus)]


def test_the_pause_before_another_header_is_estimated(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300), HEADER, *_run("10:00:20.000", 300)]
    replayed = energy(tmp_path / "p.csv", lines)
    assert replayed.by_method == {"integrated": 2400, "estimated": 4800}
    assert "its header is there 2 times" in replayed.notes
    assert "1 holes of 16.000 s" in replayed.notes


@pytest.mark.parametrize("header", [[HEADER], []], ids=["with a header", "without"])
def test_a_short_pause_is_estimated_too(tmp_path: Path, header: list[str]) -> None:
    lines = [HEADER, *_run("10:00:00.000", 100, rows=9), *header, *_run("10:00:30.000", 100, rows=9)]
    assert energy(tmp_path / "p.csv", lines).by_method == {"integrated": 1600, "estimated": 2200}


def test_a_counter_over_the_pause_before_another_header_is_estimated(tmp_path: Path) -> None:
    header = "timestamp, index, energy_mj"
    cells = [f"0, {n * 100_000}" for n in range(1, 6)], [f"0, {n * 100_000}" for n in range(21, 26)]
    lines = [*smi(*header.split(", ")[1:], cells=cells[0]), header]
    lines += smi("index", "x", cells=cells[1], at="2026/07/01 10:00:20.000")[1:]
    assert energy(tmp_path / "p.csv", lines).by_method == {"counter": 800, "estimated": 1600}


def test_a_log_that_was_rotated_without_a_pause_is_read(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300), HEADER, *_run("10:00:05.000", 300)]
    assert energy(tmp_path / "p.csv", lines).by_method == {"integrated": 2700}


def test_a_log_at_long_steps_has_no_pauses(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300, step_s=60), *_run("10:06:00.000", 300, step_s=60)]
    assert energy(tmp_path / "p.csv", lines).by_method == {"integrated": 180_000}


def test_a_pause_beyond_the_limit_is_a_gap(tmp_path: Path) -> None:
    replayed = energy(tmp_path / "p.csv", [HEADER, *_run("10:00:00.000", 300), HEADER, *_run("10:10:00.000", 300)])
    assert replayed.by_method == {"integrated": 2400}
    assert "1 gap" in replayed.notes


@pytest.mark.parametrize("header", [[HEADER], []], ids=["with a header", "without"])
@pytest.mark.parametrize("at", ["10:00:00.000", "10:00:00.400", "09:59:58.700"])
@pytest.mark.parametrize("rows", [5, 60])
def test_the_rows_of_another_node_are_kept_apart(tmp_path: Path, header: list[str], at: str, rows: int) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300, rows=rows), *header, *_run(at, 100, rows=rows)]
    replayed = energy(tmp_path / "p.csv", lines)
    assert replayed.joules == 400 * (rows - 1)
    assert replayed.nodes == {"csv", "csv-2"}
    assert "as the rows of another node, csv-2" in replayed.notes


def test_several_nodes_with_several_gpus_are_kept_apart(tmp_path: Path) -> None:
    nodes = [_run(f"10:00:00.{n}00", 100 * (n + 1), rows=20, gpus=4) for n in range(3)]
    replayed = energy(tmp_path / "p.csv", [HEADER, *nodes[0], HEADER, *nodes[1], *nodes[2]])
    assert replayed.joules == (100 + 200 + 300) * 4 * 19
    assert replayed.nodes == {"csv", "csv-2", "csv-3"}


def test_nodes_of_other_rates_are_kept_apart(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300, rows=61), *_run("10:00:00.500", 100, rows=7, step_s=10)]
    assert energy(tmp_path / "p.csv", lines).joules == 300 * 60 + 100 * 60


def test_gpus_of_another_node_with_names_of_their_own_need_no_other_node(tmp_path: Path) -> None:
    first, second = _run("10:00:00.000", 300), _run("10:00:00.400", 100)
    lines = [HEADER, *(row.replace(", 0,", ", GPU-a,") for row in first)]
    lines += [HEADER, *(row.replace(", 0,", ", GPU-b,") for row in second)]
    replayed = energy(tmp_path / "p.csv", lines)
    assert replayed.by_gpu == {"GPU-a": 1200, "GPU-b": 400}
    assert replayed.nodes == {"csv"}


def test_a_file_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    run = [HEADER, *_run("10:00:00.000", 300, rows=20, gpus=2)]
    replayed = energy(tmp_path / "p.csv", run + run)
    assert replayed.joules == 2 * 300 * 19
    assert "40 readings are there twice and count once" in replayed.notes


def test_rows_that_two_files_have_in_common_count_once(tmp_path: Path) -> None:
    first, second = _run("10:00:00.000", 300, rows=20), _run("10:00:08.000", 300, rows=20)
    replayed = energy(tmp_path / "p.csv", [HEADER, *first, HEADER, *second])
    assert (replayed.joules, replayed.nodes) == (300 * 27, {"csv"})


def test_files_that_were_joined_in_the_wrong_order_are_put_in_order(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:10.000", 300), HEADER, *_run("10:00:05.000", 100)]
    replayed = energy(tmp_path / "p.csv", lines)
    assert (replayed.joules, replayed.nodes) == (100 * 4 + 200 + 300 * 4, {"csv"})
    assert "times go back 9.000 s" in replayed.notes


@pytest.mark.parametrize("seed", range(5))
def test_rows_out_of_order_are_sorted(tmp_path: Path, seed: int) -> None:
    rows = _run("10:00:00.000", 300, rows=60, gpus=2)
    random.Random(seed).shuffle(rows)
    replayed = energy(tmp_path / "p.csv", [HEADER, *rows])
    assert (replayed.by_method, replayed.nodes) == ({"integrated": 2 * 300 * 59}, {"csv"})
    assert "out of order" in replayed.notes


def test_a_block_that_was_written_late_is_put_in_its_place(tmp_path: Path) -> None:
    rows = _run("10:00:00.000", 300, rows=40)
    for lines in (rows[:10] + rows[20:30] + rows[10:20] + rows[30:], rows[:20] + rows[21:30] + [rows[20]] + rows[30:]):
        replayed = energy(tmp_path / "p.csv", [HEADER, *lines])
        assert (replayed.joules, replayed.nodes) == (300 * 39, {"csv"})
        assert "sorted by time" in replayed.notes


def test_a_clock_that_was_set_back_a_little_is_noted(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300, rows=60), *_run("10:00:57.500", 300, rows=60)]
    replayed = energy(tmp_path / "p.csv", lines)
    assert replayed.nodes == {"csv"}
    assert "times go back 1.500 s" in replayed.notes


def test_another_header_may_have_other_columns(tmp_path: Path) -> None:
    lines = [HEADER, *_run("10:00:00.000", 300), "power.draw [mW], name, index, timestamp"]
    lines += [f"300000, NVIDIA H100, 0, 2026/07/01 10:00:0{s}.000" for s in (5, 6, 7)]
    assert energy(tmp_path / "p.csv", lines).joules == 300 * 7


@pytest.mark.parametrize(
    "end",
    [
        "2026/07/01 10:00:05.000, 0, 6",
        "2026/07/01 10:00:05.000, 0",
        "2026/07/01 10:0",
        "2026/07/01 10:00:05.000, 0, 69.1",
    ],
)
def test_a_last_line_without_its_newline_is_refused(tmp_path: Path, end: str) -> None:
    replayed = energy(tmp_path / "p.csv", "\n".join([HEADER, *_run("10:00:00.000", 690), end]))
    assert (replayed.joules, [row.line for row in replayed.bad]) == (690 * 4, [7])
    assert "the file ends within this line" in replayed.bad[0].reason


def test_a_last_line_that_ends_with_its_unit_is_whole(tmp_path: Path) -> None:
    replayed = energy(tmp_path / "p.csv", "\n".join([HEADER, *_run("10:00:00.000", 690)]))
    assert (replayed.joules, replayed.bad) == (690 * 4, [])


def test_a_comma_behind_the_last_cell_is_no_cell(tmp_path: Path) -> None:
    assert energy(tmp_path / "p.csv", [HEADER, *(f"{row}," for row in _run("10:00:00.000", 690))]).joules == 690 * 4
