"""The summary of a replay has the ledger's energy of a request: J/sample of MLPerf's runs, J/request of others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Ran, wattlog
from tests.producers.recordings.mlperf.test_recording import OFFLINE, _folder
from tests.producers.recordings.replay import write

T0 = 1_760_954_400
COLUMNS = "start,end,tenant,model,prompt_tokens,completion_tokens"
IMAGES = OFFLINE | {"result_tokens_per_second": None}


def summary(ran: Ran, name: str) -> str:
    """A line of the printed summary."""
    assert ran.status == 0, ran.err
    [line] = [line for line in ran.out.splitlines() if line.strip().startswith(f"{name} ")]
    return line.split(maxsplit=1)[1]


def replay_csv(folder: Path, *requests: str, seconds: int = 30) -> tuple[str | Path, ...]:
    """Arguments of a replay of 100 W for some seconds from T0 on."""
    tokens = write(folder / "t.csv", COLUMNS, *requests)
    power = write(folder / "p.csv", "time,gpu,power_w", *(f"{T0 + s},g,100" for s in range(seconds + 1)))
    return "replay", "csv", "--tokens", tokens, "--power", power, "--data", folder / "data"


def published_offline(shared_data: Path, folder: Path, **changes: object) -> Path:
    """An Offline run of images, in the time and with the wall readings of the published run."""
    published = shared_data / "power" / "mlperf_gptj-99_Server"
    lines = (published / "mlperf_log_detail.txt").read_text().splitlines()
    values = {entry["key"]: entry["value"] for entry in (json.loads(line[9:]) for line in lines)}
    times = {key: values[key] for key in ("power_begin", "power_end")}
    _folder(folder, **IMAGES | times | {"sut_name": "resnet50-Offline-SUT"} | changes)
    shutil.copy(published / "spl.txt", folder / "spl.txt")
    return folder


def test_an_offline_run_of_images_has_joules_per_sample_and_no_tokens(shared_data: Path, tmp_path: Path) -> None:
    run = {
        "generated_samples_per_query": 6_309, "result_samples_per_second": 10.0,
        "result_max_latency_ns": 630_920_000_000, "result_99.00_percentile_latency_ns": 624_000_000_000,
    }  # fmt: skip
    (tmp_path / "run").mkdir()
    folder = published_offline(shared_data, tmp_path / "run", **run)
    ran = wattlog("replay", "mlperf", folder, "--data", tmp_path / "data")
    assert summary(ran, "J/token") == "no tokens"
    recorded = summary(ran, "recorded: energy per sample").partition("second) ")[2]
    assert float(summary(ran, "J/sample")) == pytest.approx(float(recorded.split()[0]), rel=1e-3)


@pytest.mark.parametrize("pieces", [pytest.param(0, marks=pytest.mark.slow), 40])
def test_a_row_counts_as_the_samples_that_it_stands_for(tmp_path: Path, pieces: int) -> None:
    fault = f"import producers.recordings.mlperf.recording as r; r.MAX_OPEN_PIECES = {pieces}" if pieces else ""
    (tmp_path / "run").mkdir()
    run = IMAGES | {"result_samples_per_second": 100.0}
    ran = wattlog(
        "replay", "mlperf", _folder(tmp_path / "run", **run), "--data", tmp_path / "data", "--json", fault=fault
    )
    assert ran.status == 0, ran.err
    assert any("rows stand for" in note for note in ran.json["notes"]) == bool(pieces)
    assert (ran.json["requests"], ran.json["request_unit"]) == (1_000, "sample")
    energy_uj = ran.json["energy_uj"] + ran.json["edges_uj"]
    assert ran.json["joules_per_request"] == energy_uj / 1e6 / 1_000
    assert energy_uj == 1_075_000_000


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        pytest.param(
            [f"{T0},{T0 + 20},a,m,100,50", f"{T0},{T0 + 9},b,m,1,2"], "1,500.000000", id="tokens",
            marks=pytest.mark.slow,
        ),
        pytest.param([f"{T0},{T0 + 9},{t},m,0,0" for t in "abb"], "1,000.000000", id="images"),
        pytest.param(
            [f"{T0},{T0 + 9},a,m,0,0", f"{T0 + 900},{T0 + 905},a,m,5,5"],
            "1,500.000000, 1 of the requests are unmetered", id="one beside the energy",
        ),
        pytest.param(
            [f"{T0 + 900},{T0 + 905},a,m,5,5"], "unmetered", id="none with energy", marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_requests_of_a_csv_have_joules_per_request(tmp_path: Path, requests: list[str], expected: str) -> None:
    assert summary(wattlog(*replay_csv(tmp_path, *requests)), "J/request") == expected


def test_a_run_without_requests_has_no_joules_per_request(tmp_path: Path) -> None:
    args: list[Any] = [arg for arg in replay_csv(tmp_path) if arg not in ("--tokens", tmp_path / "t.csv")]
    ran = wattlog(*args)
    assert ran.status == 0, ran.err
    assert "J/request" not in ran.out
