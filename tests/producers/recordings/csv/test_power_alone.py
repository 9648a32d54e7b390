"""A power file without requests, requests without tenants, and files that hold no energy."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import BadInput
from producers.recordings.csv.recording import csv_recording
from tests.producers.recordings.csv.power import energy, smi
from tests.producers.recordings.replay import replay, wire, write

T0 = 1_782_900_000
POWER = ["time,gpu,power_w", *(f"{T0 + s},0,100" for s in range(5))]
MIXED = """timestamp, index, uuid, name, power.draw [W], utilization.gpu [%]
2025/03/01 10:00:00.000, 0, GPU-a, NVIDIA A100-SXM4-80GB, 100.00 W, 10 %
2025/03/01 10:00:00.004, 1, GPU-b, NVIDIA A100-SXM4-80GB, 200.00 W, 10 %
2025/03/01 10:00:00.009, 2, GPU-c, NVIDIA A100-SXM4-80GB, [Not Supported], [Not Supported]
2025/03/01 10:00:01.000, 0, GPU-a, NVIDIA A100-SXM4-80GB, [Unknown Error], [Unknown Error]
2025/03/01 10:00:01.004, 1, GPU-b, NVIDIA A100-SXM4-80GB, [GPU requires reset], [N/A]
2025/03/01 10:00:02.000, 0, GPU-a, NVIDIA A100-SXM4-80GB, 100.00 W, 10 %
2025/03/01 10:00:02.004, 1, GPU-b, NVIDIA A100-SXM4-80GB, 200.00 W, 10 %
No devices were found
timestamp, index, uuid, name, power.draw [W], utilization.gpu [%]
2025/03/01 10:00:03.000, 0, GPU-a, NVIDIA A100-SXM4-80GB, 100.00 W, 10 %
2025/03/01 10:00:03.004, 1, GPU-b, NVIDIA A100-SXM4-80GB, 200.00 W, 10 %
"""


def test_power_alone_is_a_recording(tmp_path: Path) -> None:
    recording = csv_recording(None, write(tmp_path / "power.csv", *POWER))
    assert (recording.name, recording.rows) == ("power.csv", 4)
    assert replay(recording.events()).energy_uj == {"csv": 400_000_000}
    assert wire(recording.events()) == wire(recording.events())


def test_requests_without_tenant_and_model_get_the_given_ones(tmp_path: Path) -> None:
    power = write(tmp_path / "p.csv", *POWER)
    tokens = write(tmp_path / "t.csv", "start,end,prompt_tokens,completion_tokens", f"{T0},{T0 + 1},5,5")
    out = replay(csv_recording(tokens, power, tenant="acme", model="llama").events())
    assert [row[1] for row in out.token_rows] == ["acme"]
    with pytest.raises(BadInput, match="also needs model"):
        csv_recording(tokens, power, tenant="acme")
    tokens = write(tmp_path / "t.csv", "start,end,tenant,model,prompt_tokens,completion_tokens", f"{T0},{T0},b,m,1,1",
                   f"{T0},{T0},,,1,1")  # fmt: skip
    out = replay(csv_recording(tokens, power, tenant="acme", model="llama").events())
    assert [row[1] for row in out.token_rows] == ["b", "acme"]


def test_options_that_are_not_given_do_not_change_the_recording(tmp_path: Path) -> None:
    power = write(tmp_path / "p.csv", *POWER)
    plain, named = csv_recording(None, power), csv_recording(None, power, tenant="acme")
    assert wire(plain.events()) == wire(csv_recording(None, power, tenant="", timezone="", start="").events())
    assert wire(plain.events()) != wire(named.events())


def test_a_power_file_without_any_readable_row_is_refused_with_the_first_reasons(tmp_path: Path) -> None:
    lines = smi("index", "power.draw [W]", cells=["0, [N/A]", "0, lots", "0, -5 W", "0, 9e30"])
    with pytest.raises(BadInput, match=r"none of its 4 rows can be read: p.csv, line 2, column 'power.draw'.*; .*lots"):
        energy(tmp_path / "p.csv", lines)


def test_a_requests_file_without_any_readable_row_is_refused(tmp_path: Path) -> None:
    tokens = write(tmp_path / "t.csv", "start,end,tenant,model,prompt_tokens,completion_tokens", "x,x,a,m,1,1")
    with pytest.raises(BadInput, match=r"t\.csv': none of its rows can be read: t\.csv, line 2, column 'start'"):
        csv_recording(tokens, write(tmp_path / "p.csv", *POWER))


def test_requests_beside_a_single_reading_are_unmetered(tmp_path: Path) -> None:
    tokens = write(tmp_path / "t.csv", "start,end,tenant,model,prompt_tokens,completion_tokens", f"{T0},{T0},a,m,1,1")
    recording = csv_recording(tokens, write(tmp_path / "p.csv", *POWER[:2]))
    assert "p.csv has no energy: the requests are unmetered." in recording.notes
    with pytest.raises(BadInput, match="no energy lies between its readings"):
        csv_recording(None, tmp_path / "p.csv")


def test_a_counter_that_stands_while_watts_are_drawn_is_estimated_with_a_note(tmp_path: Path) -> None:
    replayed = energy(tmp_path / "p.csv", smi("index", "energy_mj", "power.draw [W]", cells=["0, 5000000, 300 W"] * 60))
    assert replayed.by_method == {"estimated": 17_700}
    assert "The energy counter of gpu-0 stood" in replayed.notes
    assert "17,700.000 J of 59.000 s are estimated" in replayed.notes


def test_a_counter_in_another_unit_than_its_header_says_is_noted_beside_watts(tmp_path: Path) -> None:
    """Here joules stand in a column of millijoules, so the counter shows a thousandth of the watts."""
    cells = [f"0, {5_000_000 + 300 * s}, {300 + s % 3} W" for s in range(121)]
    replayed = energy(tmp_path / "p.csv", smi("index", "energy_mj", "power.draw [W]", cells=cells))
    assert set(replayed.by_method) == {"counter", "estimated"}
    assert "The energy counter and the watts of gpu-0 differ" in replayed.notes
    assert "Look at the units of the columns." in replayed.notes


def test_a_file_of_zero_watts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not only 0 W"):
        energy(tmp_path / "p.csv", smi("index", "power.draw [W]", cells=["0, 0.00 W"] * 5))


def test_a_file_with_one_row_that_can_be_read_says_why_the_others_cannot(tmp_path: Path) -> None:
    lines = ["time,gpu,power_w", "2026-03-29 01:59:59,0,300", "2026-03-29 02:00:00,0,300"]
    with pytest.raises(BadInput, match=r"a GPU needs two.*p\.csv, line 3, column 'time'"):
        energy(tmp_path / "p.csv", lines, timezone="Europe/Berlin")


@pytest.mark.parametrize(
    ("types", "inner"),
    [(("H100", "wall of n1"), "H100"), (("host", "wall of n1"), "host"), (("host", "wall less GPUs"), "host")],
)
def test_energy_that_contains_other_energy_of_its_node_is_refused(
    tmp_path: Path, types: tuple[str, str], inner: str
) -> None:
    lines = [f"{T0 + s},{n},{name},{100 + n}" for s in range(5) for n, name in enumerate(types)]
    with pytest.raises(BadInput, match=f"hardware: '{types[1]}': contains {inner} of node csv, .* count twice"):
        energy(tmp_path / "p.csv", ["time,gpu,hardware,power_w", *lines])


@pytest.mark.parametrize("types", [("H100", "host"), ("H100", "wall less GPUs"), ("wall of n1", "wall of n2")])
def test_parts_of_a_node_that_lie_beside_each_other_are_read(tmp_path: Path, types: tuple[str, str]) -> None:
    lines = [f"{T0 + s},{n},{name},100,{'n2' if name == 'wall of n2' else 'n1'}" for s in range(5)
             for n, name in enumerate(types)]  # fmt: skip
    assert energy(tmp_path / "p.csv", ["time,gpu,hardware,power_w,node", *lines]).joules == 800


def test_hardware_that_is_named_almost_like_a_host_is_noted(tmp_path: Path) -> None:
    lines = [f"{T0 + s},{n},{name},{100 + n}" for s in range(5) for n, name in enumerate(("H100", "CPU"))]
    assert (
        "The hardware 'CPU' counts as a GPU" in energy(tmp_path / "p.csv", ["time,gpu,hardware,power_w", *lines]).notes
    )


def test_cells_of_all_sorts_and_messages_between_rows_are_read_around(tmp_path: Path) -> None:
    replayed = energy(tmp_path / "p.csv", MIXED)
    assert replayed.by_gpu == {"GPU-a": 300, "GPU-b": 600}
    assert [row.line for row in replayed.bad] == [4, 5, 6, 9]
