"""The power file's columns: chosen row by row, with the units of their headers and cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.recordings.csv_units import ENERGY_UNITS, POWER_UNITS, parse_header, quantity, scale_of
from tests.producers.recordings.csv.power import energy, smi

UNKNOWN = ("[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "[GPU is lost]", "ERR!", "err", "nan", "-", "")


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_a_row_uses_the_first_column_that_has_a_value(tmp_path: Path, unknown: str) -> None:
    columns = ("index", "power.draw [W]", "power.draw.average [W]", "power.draw.instant [W]")
    lines = smi(*columns, cells=[f"0, {unknown}, {unknown}, 310.00 W"] * 10)
    assert energy(tmp_path / "p.csv", lines).by_method == {"integrated": 2790}


def test_the_column_may_change_from_row_to_row(tmp_path: Path) -> None:
    cells = ["0, 100 W, 900 W", "0, [N/A], 100 W", "0, 100 W, [N/A]", "0, ERR!, 100 W"]
    assert (
        energy(tmp_path / "p.csv", smi("index", "power.draw [W]", "power.draw.instant [W]", cells=cells)).joules == 300
    )


def test_the_order_of_columns_in_the_file_decides_nothing(tmp_path: Path) -> None:
    lines = smi("power.draw.instant [W]", "index", "power.draw [W]", cells=["900 W, 0, 100 W"] * 3)
    assert energy(tmp_path / "p.csv", lines).joules == 200


def test_a_faulty_cell_leaves_the_row_to_the_next_column(tmp_path: Path) -> None:
    lines = smi("index", "energy_mj", "power.draw [W]", cells=["0, 9223372036854775794, 100 W"] * 3)
    assert energy(tmp_path / "p.csv", lines).joules == 200


@pytest.mark.parametrize("limit", ["power.limit", "enforced.power.limit", "power.default_limit", "power.max_limit"])
def test_a_limit_is_never_power(tmp_path: Path, limit: str) -> None:
    lines = smi(
        "index", f"{limit} [W]", "power.draw [W]", cells=["0, 700 W, [N/A]", "0, 700 W, 50 W", "0, 700 W, 50 W"]
    )
    assert energy(tmp_path / "p.csv", lines).joules == 50
    with pytest.raises(BadInput, match=f"{limit}.*is a limit, not a reading"):
        energy(tmp_path / "p.csv", smi("index", f"{limit} [W]", cells=["0, 700 W"] * 3))


def test_a_gpu_without_a_value_of_its_own_is_its_module(tmp_path: Path) -> None:
    columns = ("index", "name", "power.draw [W]", "module.power.draw.average [W]", "module.power.draw.instant [W]")
    replayed = energy(tmp_path / "p.csv", smi(*columns, cells=["0, NVIDIA GH200 480GB, [N/A], 520.10 W, 530.20 W"] * 5))
    assert replayed.by_gpu == {"gpu-0": 2080.4}
    assert replayed.hardware == {"NVIDIA GH200 480GB (module)"}
    assert "gpu-0: the watts are those of the module" in replayed.notes


def test_a_gpu_with_values_of_its_own_is_never_its_module(tmp_path: Path) -> None:
    cells = ["0, 300 W, 500 W", "0, [N/A], 500 W", "0, 300 W, 500 W"]
    replayed = energy(tmp_path / "p.csv", smi("index", "power.draw [W]", "module.power.draw.instant [W]", cells=cells))
    assert (replayed.joules, replayed.hardware, [row.line for row in replayed.bad]) == (600, {"unknown"}, [3])


@pytest.mark.parametrize(
    ("column", "cell", "joules"),
    [
        ("power_w [mW]", "15000", 60),
        ("power.draw [kW]", "0.3", 1200),
        ("Power (mW)", "15000", 60),
        ("POWER_MW", "15000", 60),
        ("power_mw", "15000", 60),
        ("gpu_power_watts", "15", 60),
        ("power.draw [uW]", "15000000", 60),
        ("power.draw [W]", "15000 mW", 60),
        ("power_usage [mW]", "15 W", 60),
        ("socket_power", "15", 60),
        ("Average Graphics Package Power (W)", "15.0", 60),
    ],
)
def test_power_is_converted_from_the_unit_of_its_cell_or_header(
    tmp_path: Path, column: str, cell: str, joules: float
) -> None:
    assert energy(tmp_path / "p.csv", smi("index", column, cells=[f"0, {cell}"] * 5)).by_method == {
        "integrated": joules
    }


@pytest.mark.parametrize(
    ("column", "cell", "joules"),
    [
        ("energy_j [kJ]", "{}", 4000),
        ("energy [J]", "{}", 4),
        ("energy_kj", "{}", 4000),
        ("energy_uj", "{}000000", 4),
        ("total_energy_consumption [mJ]", "{}000", 4),
        ("energy [Wh]", "{}", 14_400),
        ("energy_kwh", "0.00{}", 14_400),
        ("energy [mWh]", "{}", 14.4),
        ("energy [MJ]", "0.00{}", 4000),
        ("ENERGY_MJ", "{}000", 4),
        ("energy", "{} kJ", 4000),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "{}000", 4),
    ],
)
def test_a_counter_is_converted_from_the_unit_of_its_cell_or_header(
    tmp_path: Path, column: str, cell: str, joules: float
) -> None:
    lines = smi("index", column, cells=[f"0, {cell.format(n)}" for n in range(1, 6)], step_s=60)
    assert energy(tmp_path / "p.csv", lines).by_method == {"counter": joules}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("power.draw [hp]", r"power.draw \[hp\].*unknown unit hp: write W, mW"),
        ("power [MW]", r"unknown unit MW: write W, mW"),
        ("energy [BTU]", r"unknown unit BTU: write J, mJ"),
        ("energy", r"column 'energy': '5': no unit here or in the header: write J, mJ"),
        ("power_usage", r"no unit here or in the header: write W, mW"),
    ],
)
def test_an_unknown_unit_is_refused_by_name(tmp_path: Path, column: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        energy(tmp_path / "p.csv", smi("index", column, cells=["0, 5"] * 3))


def test_a_cell_with_an_unknown_unit_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    replayed = energy(
        tmp_path / "p.csv", smi("index", "power_w", cells=["0, 100 W", "0, 100 hp", "0, 100 W", "0, 300,5 W"])
    )
    assert replayed.joules == 200
    assert next((row.line, row.reason) for row in replayed.bad) == (3, "unknown unit hp: write W, mW, uW or kW")


@pytest.mark.parametrize(
    ("text", "name", "unit"),
    [
        ("power.draw.instant [W]", "power_draw_instant", "W"),
        ("Power Draw (mW)", "power_draw", "mW"),
        ("energy_j [kJ]", "energy", "kJ"),
        ("Energy_MJ", "energy", "MJ"),
        ("energy_mj", "energy", "mJ"),
        ("watts", "watts", ""),
        ("elapsed_ms", "elapsed", "ms"),
    ],
)
def test_a_header_is_a_name_and_a_unit(text: str, name: str, unit: str) -> None:
    assert (parse_header(text).name, scale_of(parse_header(text).unit, {unit: 1}) if unit else None) == (
        name,
        1 if unit else None,
    )


@pytest.mark.parametrize(
    ("text", "micro"), [("0.1", 100_000), ("1e-3 kW", 1_000_000), ("300.12W", 300_120_000), (".5 mW", 500)]
)
def test_a_quantity_is_exact(text: str, micro: int) -> None:
    assert quantity(text, POWER_UNITS, POWER_UNITS["W"], "") == micro


@pytest.mark.parametrize(
    ("text", "reason"), [("300,12 W", "decimal point"), ("1e9999", "too large|not a"), ("x", "not a number")]
)
def test_text_that_is_no_quantity_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        quantity(text, ENERGY_UNITS, 1, "")


def test_a_row_with_a_duration_is_an_interval_of_its_own(tmp_path: Path) -> None:
    lines = ["time,gpu,duration_s,energy_j", "1700000000,0,60,600", "1700000060,0,60,1200", "1700000090,0,60,1"]
    replayed = energy(tmp_path / "p.csv", lines)
    assert (replayed.joules, [row.line for row in replayed.bad]) == (1800, [4])
    replayed = energy(
        tmp_path / "p.csv", ["time,gpu,duration [ms],power_w", "1700000000,0,500,100", "1700000009,0,500,300"]
    )
    assert replayed.by_method == {"integrated": 200}
