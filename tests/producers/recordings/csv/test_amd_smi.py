"""amd-smi's own CSV, and its JSON by the command of the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from contracts.events import Method
from producers.recordings.csv.recording import csv_recording
from tests.producers.recordings.replay import replay, write
from tests.support.paths import ROOT

T0 = 1_772_900_000
HEADER = "timestamp,gpu,gfx_activity,umc_activity,mm_activity,vcn_activity,socket_power,gfx_voltage,power_management"


def test_the_csv_of_amd_smi_is_read_as_it_is(tmp_path: Path) -> None:
    rows = [
        f"{T0 + s},{gpu},0,0,N/A,\"['0%', '0%', 'N/A', 'N/A']\",{140 + gpu},N/A,ENABLED"
        for s in range(5) for gpu in (0, 1)
    ]  # fmt: skip
    out = replay(csv_recording(None, write(tmp_path / "power.csv", HEADER, *rows)).events())
    assert not out.bad
    assert {row[0] for row in out.power_rows} == {"gpu-0", "gpu-1"}
    assert sum(out.energy_uj.values()) == (140 + 141) * 4 * 1_000_000


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq")
@pytest.mark.parametrize("is_wrapped", [False, True], ids=["array", "gpu_data"])
def test_the_json_of_amd_smi_becomes_csv_by_the_command_of_the_page(tmp_path: Path, is_wrapped: bool) -> None:
    page = (ROOT / "producers/recordings/csv/README.md").read_text("utf-8")
    (command,) = re.findall(r"^    (\(echo time,gpu.*)$", page, re.M)
    documents = []
    for s in range(5):
        gpus = [
            {
                "timestamp": T0 + s, "gpu": 0, "usage": {"gfx_activity": {"value": 50, "unit": "%"}},
                "power": {"socket_power": {"value": 300, "unit": "W"}},
                "energy": {"total_energy_consumption": {"value": 1_000.5 + 301 * s, "unit": "J"}},
            },
            {"timestamp": T0 + s, "gpu": 1, "usage": "N/A", "power": {"socket_power": {"value": 140, "unit": "W"}},
             "energy": {"total_energy_consumption": "N/A"}},
        ]  # fmt: skip
        documents.append(json.dumps({"gpu_data": gpus} if is_wrapped else gpus, indent=4))
    write(tmp_path / "power.json", *documents)
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True)
    out = replay(csv_recording(None, tmp_path / "power.csv").events())
    assert not out.bad
    energy_uj = {gpu: sum(row[3] for row in out.power_rows if row[0] == gpu) for gpu in ("gpu-0", "gpu-1")}
    assert energy_uj == {"gpu-0": 301 * 4 * 1_000_000, "gpu-1": 140 * 4 * 1_000_000}
    assert {row[4] for row in out.power_rows if row[0] == "gpu-0"} == {Method.COUNTER}
