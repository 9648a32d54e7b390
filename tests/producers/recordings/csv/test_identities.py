"""GPUs of the power file: separated by any column that names them, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.recordings.csv.bursts import devices_by_rhythm
from tests.producers.recordings.csv.power import energy

T0 = 1_782_900_000_000


def _ticks(header: str, cells: list[str], *, ticks: int = 10, step_ms: int = 1000, apart_ms: int = 5) -> list[str]:
    """Return a file with a row for each GPU at each tick, some milliseconds apart."""
    rows = [f"{T0 + tick * step_ms + i * apart_ms},{text}" for tick in range(ticks) for i, text in enumerate(cells)]
    return [f"time,{header}", *rows]


@pytest.mark.parametrize(
    ("column", "names"),
    [
        ("pci.bus_id", ["00000000:01:00.0", "00000000:02:00.0"]),
        ("gpu_bus_id", ["00000000:01:00.0", "00000000:02:00.0"]),
        ("uuid", ["GPU-a", "GPU-b"]),
        ("serial", ["1652122000001", "1652122000002"]),
        ("index", ["0", "1"]),
        ("gpu_id", ["0", "1"]),
        ("GPU", ["0", "1"]),
        ("device", ["card0", "card1"]),
    ],
)
@pytest.mark.parametrize("apart_ms", [0, 5])
def test_any_identity_separates_gpus(tmp_path: Path, column: str, names: list[str], apart_ms: int) -> None:
    cells = [f"{names[0]},300", f"{names[1]},100"]
    replayed = energy(tmp_path / "p.csv", _ticks(f"{column},power_w", cells, apart_ms=apart_ms))
    expected = [f"gpu-{name}" if name.isdecimal() else name for name in names]
    assert replayed.by_gpu == dict(zip(expected, (2700, 900), strict=True))


def test_the_best_identity_names_the_gpu(tmp_path: Path) -> None:
    lines = _ticks("index,serial,uuid,pci.bus_id,power_w", ["0,1,GPU-a,1:0,300", "1,1,GPU-b,2:0,100"])
    assert set(energy(tmp_path / "p.csv", lines).by_gpu) == {"GPU-a", "GPU-b"}


def test_a_row_with_an_index_alone_is_of_the_uuid_that_other_rows_name(tmp_path: Path) -> None:
    lines = _ticks("index,uuid,power_w", ["0,GPU-a,300", "1,GPU-b,100"])
    lines[3], lines[4] = lines[3].replace("GPU-a", "[N/A]"), lines[4].replace("GPU-b", "")
    assert energy(tmp_path / "p.csv", lines).by_gpu == {"GPU-a": 2700, "GPU-b": 900}


def test_a_row_without_a_name_is_of_the_only_gpu(tmp_path: Path) -> None:
    lines = _ticks("uuid,power_w", ["GPU-a,300"])
    lines[3] = lines[3].replace("GPU-a", "[N/A]")
    replayed = energy(tmp_path / "p.csv", lines)
    assert replayed.by_gpu == {"GPU-a": 2700}
    assert "1 rows name no GPU; the others do" in replayed.notes


def test_a_row_without_a_name_beside_several_gpus_is_refused(tmp_path: Path) -> None:
    lines = _ticks("uuid,power_w", ["GPU-a,300", "GPU-b,100"])
    lines[3] = lines[3].replace("GPU-a", "")
    replayed = energy(tmp_path / "p.csv", lines)
    assert (replayed.joules, [row.reason for row in replayed.bad]) == (
        3600, ["names no GPU, but other rows name several"],
    )  # fmt: skip


@pytest.mark.parametrize("gpus", [2, 3, 8, 16])
@pytest.mark.parametrize(("step_ms", "apart_ms"), [(1000, 0), (1000, 5), (500, 3), (60_000, 20), (30_000, 150)])
@pytest.mark.parametrize("ticks", [2, 3, 30])
def test_several_gpus_without_a_column_are_refused(
    tmp_path: Path, gpus: int, step_ms: int, apart_ms: int, ticks: int
) -> None:
    lines = _ticks(
        "power_w", [str(100 * (i + 1)) for i in range(gpus)], ticks=ticks, step_ms=step_ms, apart_ms=apart_ms
    )
    with pytest.raises(BadInput, match=f"looks like {gpus} GPUs that no column tells apart: name index or uuid"):
        energy(tmp_path / "p.csv", lines)
    with pytest.raises(BadInput, match=f"looks like {gpus} GPUs"):
        energy(
            tmp_path / "p.csv",
            [lines[0].replace("power_w", "uuid,power_w"), *(f"{row[:14]}[N/A],{row[14:]}" for row in lines[1:])],
        )


def test_gpus_of_several_types_without_a_column_are_refused(tmp_path: Path) -> None:
    lines = [
        "time,name,power_w",
        f"{T0},NVIDIA A100,100",
        f"{T0 + 600},NVIDIA H100,400",
        f"{T0 + 1000},NVIDIA A100,100",
    ]
    with pytest.raises(BadInput, match=r"looks like 2 GPUs \(NVIDIA A100, NVIDIA H100\)"):
        energy(tmp_path / "p.csv", lines)


def test_rows_of_two_nodes_that_alternate_under_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="looks like 2 GPUs of this name: name their nodes in a column node"):
        energy(tmp_path / "p.csv", _ticks("index,power_w", ["0,300", "0,100"]))
    replayed = energy(tmp_path / "p.csv", _ticks("index,hostname,power_w", ["0,a,300", "0,b,100"]))
    assert (replayed.joules, replayed.nodes) == (3600, {"a", "b"})


@pytest.mark.parametrize(
    "times",
    [
        range(0, 10_000, 15), range(0, 10_000, 1000), [0, 1000, 1000, 2000, 3000],
        [*range(0, 5000, 1000), *range(60_000, 65_000, 1000), *range(120_000, 125_000, 1000)],
        [t + t % 7 for t in range(0, 5000, 100)], [0, 2, 1000, 2000, 3000], [], [5],
    ],
    ids=["fast", "slow", "one row twice", "runs", "jitter", "two rows at first", "none", "one"],
)  # fmt: skip
def test_the_rhythm_of_one_gpu_is_that_of_one(times: list[int]) -> None:
    assert devices_by_rhythm(list(times)) == 1
